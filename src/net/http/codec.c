// SPDX-License-Identifier: Apache-2.0
// Reads Accept-Encoding. What cannot be read is not accepted: an answer in the clear is always understood.
#include "net/http/codec.h"

#include "base/check.h"
#include "net/http/http_private.h"

struct slice http_codec_name(enum http_codec codec)
{
    static const struct slice names[HTTP_CODECS] = {{"identity", 8}, {"gzip", 4}, {"br", 2}, {"zstd", 4}};
    CHECK(codec < HTTP_CODECS);
    return names[codec];
}

// qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ), in thousandths; 0 for anything else.
static uint16_t qvalue(struct slice text)
{
    if (text.len == 0 || text.len > 5 || (text.len > 1 && text.data[1] != '.'))
        return 0;
    unsigned weight = 0;
    for (size_t i = 0, unit = HTTP_WEIGHT_FULL; i < text.len; i++) {
        if (i == 1)
            continue;
        if (text.data[i] < '0' || text.data[i] > '9')
            return 0;
        weight += (unsigned)(text.data[i] - '0') * (unsigned)unit;
        unit /= 10;
    }
    return weight <= HTTP_WEIGHT_FULL ? (uint16_t)weight : 0;
}

// "gzip;q=0.5": cuts the weight off.
static uint16_t cut_weight(struct slice *element)
{
    const char *semicolon = memchr(element->data, ';', element->len);
    if (semicolon == NULL)
        return HTTP_WEIGHT_FULL;
    size_t len = (size_t)(semicolon - element->data);
    struct slice weight = http_trim((struct slice){semicolon + 1, element->len - len - 1});
    *element = http_trim((struct slice){element->data, len});
    if (weight.len < 3 || slice_lower_char(weight.data[0]) != 'q' || weight.data[1] != '=')
        return 0;
    return qvalue((struct slice){weight.data + 2, weight.len - 2});
}

// Also '*', as HTTP_CODECS. Above it: none that we know.
static unsigned codec_of(struct slice name)
{
    if (slice_equal_nocase(name, SLICE("x-gzip")))
        return HTTP_CODEC_GZIP;
    if (slice_equal(name, SLICE("*")))
        return HTTP_CODECS;
    for (unsigned codec = 0; codec < HTTP_CODECS; codec++)
        if (slice_equal_nocase(name, http_codec_name((enum http_codec)codec)))
            return codec;
    return HTTP_CODECS + 1;
}

struct listed {
    uint16_t weights[HTTP_CODECS + 1]; // '*' is the last
    bool seen[HTTP_CODECS + 1];
};

static void read_list(struct slice list, struct listed *listed)
{
    struct slice element;
    while (http_list_next(&list, &element)) {
        uint16_t weight = cut_weight(&element);
        unsigned codec = codec_of(element);
        if (codec > HTTP_CODECS || (listed->seen[codec] && listed->weights[codec] <= weight))
            continue;
        listed->seen[codec] = true;
        listed->weights[codec] = weight;
    }
}

struct http_accepted http_accepted_read(const struct http_fields *fields)
{
    struct listed listed = {.weights = {[HTTP_CODEC_NONE] = 1}};
    struct http_accepted accepted;
    if (http_fields_have(fields, HTTP_FIELD_ACCEPT_ENCODING))
        for (uint32_t i = fields->first[HTTP_FIELD_ACCEPT_ENCODING]; i < fields->count; i++)
            if (fields->items[i].id == HTTP_FIELD_ACCEPT_ENCODING)
                read_list(fields->items[i].value, &listed);
    for (unsigned codec = 0; codec < HTTP_CODECS; codec++) {
        bool by_star = !listed.seen[codec] && listed.seen[HTTP_CODECS];
        accepted.weights[codec] = listed.weights[by_star ? HTTP_CODECS : codec];
    }
    return accepted;
}
