// SPDX-License-Identifier: Apache-2.0
// Percent-encoded parts of an address in plain bytes.
#include "net/web/web.h"

static enum status decode(struct slice raw, bool form, char *out, size_t cap, size_t *len)
{
    size_t n = 0;
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.data[i];
        if (c == '%') {
            int high = raw.len - i > 2 ? slice_hex_value(raw.data[i + 1]) : -1;
            int low = raw.len - i > 2 ? slice_hex_value(raw.data[i + 2]) : -1;
            if (high < 0 || low < 0)
                return STATUS_INVALID;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (form && c == '+') {
            c = ' ';
        }
        if (n == cap)
            return STATUS_FULL;
        out[n++] = c;
    }
    *len = n;
    return STATUS_OK;
}

enum status web_path_decode(struct slice raw, char *out, size_t cap, size_t *len)
{
    return decode(raw, false, out, cap, len);
}

enum status web_query_find(struct slice query, struct slice name, char *out, size_t cap, size_t *len)
{
    struct slice value;
    if (query.data == NULL || http_query_find(query, name, &value) != STATUS_OK)
        return STATUS_NOT_FOUND;
    return decode(value, true, out, cap, len);
}
