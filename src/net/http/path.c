// SPDX-License-Identifier: Apache-2.0
// The one form of a path that routes are compared by (RFC 3986 6.2.2).
#include "net/http/http_private.h"

static bool is_hex(char c)
{
    return http_is(c, HTTP_CLASS_HEX);
}

static bool is_unreserved(unsigned c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

// Escapes of characters that need none become these; the others are written in capitals.
static size_t unescape(struct slice path, char *out)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0;
    for (size_t i = 0; i < path.len; i++) {
        out[len++] = path.data[i];
        if (path.data[i] != '%' || path.len - i < 3 || !is_hex(path.data[i + 1]) || !is_hex(path.data[i + 2]))
            continue;
        unsigned value = http_hex_value(path.data[i + 1]) << 4 | http_hex_value(path.data[i + 2]);
        i += 2;
        if (is_unreserved(value)) {
            out[len - 1] = (char)value;
            continue;
        }
        out[len++] = digits[value >> 4];
        out[len++] = digits[value & 15];
    }
    return len;
}

// Takes "." and ".." out (RFC 3986 5.2.4); path begins with '/'.
static size_t remove_dots(char *path, size_t len)
{
    size_t kept = 0;
    for (size_t at = 0, end; at < len; at = end) {
        for (end = at + 1; end < len && path[end] != '/';)
            end++;
        struct slice segment = {path + at + 1, end - at - 1};
        bool up = slice_equal(segment, SLICE(".."));
        if (up)
            while (kept > 0 && path[--kept] != '/')
                ;
        if (!up && !slice_equal(segment, SLICE("."))) {
            memmove(path + kept, path + at, end - at);
            kept += end - at;
        } else if (end == len) {
            path[kept++] = '/';
        }
    }
    return kept;
}

struct slice http_path_normal(struct slice path, char *storage)
{
    bool dots = memmem(path.data, path.len, "/.", 2) != NULL;
    if (path.len == 0 || path.data[0] != '/' || (!dots && memchr(path.data, '%', path.len) == NULL))
        return path;
    return (struct slice){storage, remove_dots(storage, unescape(path, storage))};
}
