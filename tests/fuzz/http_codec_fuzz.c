// SPDX-License-Identifier: Apache-2.0
// Any lines as Accept-Encoding fields: weights stay in their range, a codec that no line names has none, and
// the order of the lines does not matter.
#include <string.h>

#include "base/check.h"
#include "net/http/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_lines(struct http_fields *fields, struct slice rest)
{
    while (rest.len > 0) {
        const char *end = memchr(rest.data, '\n', rest.len);
        struct slice line = {rest.data, end != NULL ? (size_t)(end - rest.data) : rest.len};
        size_t taken = line.len + (end != NULL);
        if (http_fields_add(fields, SLICE("Accept-Encoding"), http_trim(line)) == STATUS_FULL)
            return;
        rest = (struct slice){rest.data + taken, rest.len - taken};
    }
}

static void turn_round(const struct http_fields *fields, struct http_fields *turned)
{
    turned->present = 0;
    turned->count = 0;
    for (uint32_t i = fields->count; i > 0; i--)
        CHECK(http_fields_add(turned, SLICE("Accept-Encoding"), fields->items[i - 1].value) == STATUS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_fields fields, turned;
    fields.present = 0;
    fields.count = 0;
    add_lines(&fields, (struct slice){(const char *)data, size});
    struct http_accepted accepted = http_accepted_read(&fields);
    for (unsigned codec = 0; codec < HTTP_CODECS; codec++)
        CHECK(accepted.weights[codec] <= HTTP_WEIGHT_FULL);
    bool named = memmem(data, size, "*", 1) != NULL;
    for (size_t i = 0; i + 1 < size; i++)
        named |= slice_equal_nocase((struct slice){(const char *)data + i, 2}, SLICE("br"));
    CHECK(named || accepted.weights[HTTP_CODEC_BR] == 0);
    turn_round(&fields, &turned);
    struct http_accepted again = http_accepted_read(&turned);
    CHECK(memcmp(&again, &accepted, sizeof again) == 0);
    return 0;
}
