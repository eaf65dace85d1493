// SPDX-License-Identifier: Apache-2.0
// Accept-Encoding, row by row of RFC 9110 12.5.3 and beyond its grammar.
#include "base/check.h"
#include "net/http/codec.h"
#include "test.h"

// Weights in the order none, gzip, br, zstd.
static const struct {
    const char *first, *second; // the fields; NULL: there is none
    uint16_t weights[HTTP_CODECS];
} rows[] = {
    {NULL, NULL, {1, 0, 0, 0}},
    {"", NULL, {1, 0, 0, 0}},
    {"gzip", NULL, {1, 1000, 0, 0}},
    {"GZip", NULL, {1, 1000, 0, 0}},
    {"x-gzip", NULL, {1, 1000, 0, 0}},
    {"gzip, deflate, br, zstd", NULL, {1, 1000, 1000, 1000}},
    {"gzip;q=0.5, br;q=0.25, zstd;q=0.125", NULL, {1, 500, 250, 125}},
    {"gzip ; Q=0.5", NULL, {1, 500, 0, 0}},
    {"gzip;q=1.000,br;q=1.,zstd;q=0.", NULL, {1, 1000, 1000, 0}},
    {"gzip;q=0.001", NULL, {1, 1, 0, 0}},
    {"gzip;q=0", NULL, {1, 0, 0, 0}},
    {"gzip;q=0.000", NULL, {1, 0, 0, 0}},
    {"*", NULL, {1000, 1000, 1000, 1000}},
    {"*;q=0", NULL, {0, 0, 0, 0}},
    {"*;q=0, gzip", NULL, {0, 1000, 0, 0}},
    {"gzip;q=0.5, *;q=0.75", NULL, {750, 500, 750, 750}},
    {"gzip;q=0, *", NULL, {1000, 0, 1000, 1000}},
    {"identity;q=0, gzip", NULL, {0, 1000, 0, 0}},
    {"identity;q=0.5, gzip;q=1", NULL, {500, 1000, 0, 0}},
    {"identity", NULL, {1000, 0, 0, 0}},
    {"gzip", "br;q=0.5", {1, 1000, 500, 0}},
    {"gzip", "gzip;q=0", {1, 0, 0, 0}},
    {"gzip;q=0.5, gzip", NULL, {1, 500, 0, 0}},
    {" , ,gzip, ,", NULL, {1, 1000, 0, 0}},
    {"deflate, compress, exi, dcz, gzippy, gzi", NULL, {1, 0, 0, 0}},
    // No weights.
    {"gzip;q=1.001", NULL, {1, 0, 0, 0}},
    {"gzip;q=2", NULL, {1, 0, 0, 0}},
    {"gzip;q=0.0001", NULL, {1, 0, 0, 0}},
    {"gzip;q=-1", NULL, {1, 0, 0, 0}},
    {"gzip;q=.5", NULL, {1, 0, 0, 0}},
    {"gzip;q=", NULL, {1, 0, 0, 0}},
    {"gzip;q", NULL, {1, 0, 0, 0}},
    {"gzip;", NULL, {1, 0, 0, 0}},
    {"gzip;level=1", NULL, {1, 0, 0, 0}},
    {"gzip;q=1;q=1", NULL, {1, 0, 0, 0}},
    {"gzip;q=\"1\"", NULL, {1, 0, 0, 0}},
    {"gzip;q=1a", NULL, {1, 0, 0, 0}},
    {"gzip;q=1,0", NULL, {1, 1000, 0, 0}},
};

TEST(rows)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_fields fields = {.count = 0};
        assert_int_equal(http_fields_add(&fields, SLICE("Accept"), SLICE("gzip")), STATUS_OK);
        if (rows[i].first != NULL)
            assert_int_equal(
                http_fields_add(&fields, SLICE("Accept-Encoding"), http_trim(slice_of(rows[i].first))),
                STATUS_OK);
        if (rows[i].second != NULL)
            assert_int_equal(http_fields_add(&fields, SLICE("accept-encoding"), slice_of(rows[i].second)),
                             STATUS_OK);
        struct http_accepted accepted = http_accepted_read(&fields);
        for (unsigned codec = 0; codec < HTTP_CODECS; codec++)
            if (accepted.weights[codec] != rows[i].weights[codec])
                fail_msg("\"%s\": %s has weight %u, wanted %u", rows[i].first,
                         http_codec_name((enum http_codec)codec).data, accepted.weights[codec],
                         rows[i].weights[codec]);
    }
}
