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

// Escapes of characters that need none become these; the others are written in capitals. 0 when a '%' that
// begins no escape could begin one afterwards ("%%32E" would be "%2E").
static size_t unescape(struct slice path, char *out)
{
    static const char digits[] = "0123456789ABCDEF";
    bool lone = false, undone = false;
    size_t len = 0;
    for (size_t i = 0; i < path.len; i++) {
        out[len++] = path.data[i];
        if (path.data[i] != '%')
            continue;
        if (path.len - i < 3 || !is_hex(path.data[i + 1]) || !is_hex(path.data[i + 2])) {
            lone = true;
            continue;
        }
        unsigned value = http_hex_value(path.data[i + 1]) << 4 | http_hex_value(path.data[i + 2]);
        i += 2;
        if (is_unreserved(value)) {
            undone = true;
            out[len - 1] = (char)value;
            continue;
        }
        out[len++] = digits[value >> 4];
        out[len++] = digits[value & 15];
    }
    return lone && undone ? 0 : len;
}

// Takes "." and ".." out (RFC 3986 5.2.4); path begins with '/'. 0 when ".." would take an empty segment: who
// merges slashes sees it take another.
static size_t remove_dots(char *path, size_t len)
{
    size_t kept = 0;
    for (size_t at = 0, end; at < len; at = end) {
        for (end = at + 1; end < len && path[end] != '/';)
            end++;
        struct slice segment = {path + at + 1, end - at - 1};
        bool up = slice_equal(segment, SLICE(".."));
        if (up && kept > 0 && path[kept - 1] == '/')
            return 0;
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

static size_t merge_slashes(char *path, size_t len)
{
    size_t kept = 0;
    for (size_t i = 0; i < len; i++)
        if (path[i] != '/' || kept == 0 || path[kept - 1] != '/')
            path[kept++] = path[i];
    return kept;
}

// Some servers take the parameters of a segment off before they look at it, some do not. False when the two
// would see another path: a segment of nothing else, or of dots and them ("/..;/a").
static bool same_without_parameters(struct slice path)
{
    for (size_t at = 0; at < path.len; at++) {
        if (path.data[at] != '/')
            continue;
        size_t end = at + 1;
        while (end < path.len && path.data[end] == '.' && end - at <= 2)
            end++;
        if (end < path.len && path.data[end] == ';')
            return false;
    }
    return true;
}

static bool is_normal(struct slice path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.data[i] == '%')
            return false;
        char next = path.data[i] == '/' && i + 1 < path.len ? path.data[i + 1] : 'a';
        if (next == '.' || next == '/' || next == ';')
            return false;
    }
    return true;
}

struct slice http_path_normal(struct slice path, char *storage)
{
    if (path.len == 0 || path.data[0] != '/' || is_normal(path))
        return path;
    size_t len = remove_dots(storage, unescape(path, storage));
    struct slice normal = {storage, merge_slashes(storage, len)};
    return same_without_parameters(normal) ? normal : SLICE("");
}

// ---- parameters of segments ----

static size_t skip_parameters(struct slice path, size_t at)
{
    if (at < path.len && path.data[at] == ';')
        while (at < path.len && path.data[at] != '/')
            at++;
    return at;
}

size_t http_path_covers(struct slice prefix, struct slice path)
{
    size_t at = 0;
    for (size_t i = 0; i < prefix.len; i++, at++) {
        if (prefix.data[i] == '/')
            at = skip_parameters(path, at);
        if (at >= path.len || path.data[at] != prefix.data[i])
            return HTTP_PATH_NONE;
    }
    at = skip_parameters(path, at);
    return at == path.len || path.data[at] == '/' ? at : HTTP_PATH_NONE;
}
