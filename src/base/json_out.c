// SPDX-License-Identifier: Apache-2.0
#include "base/json_out.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/heap.h"
#include "base/utf8.h"

enum { FIRST_BYTES = 4096 };

// ---- strings ----

static struct slice escape_of(unsigned char c, bool brief, char storage[JSON_ESCAPE_BYTES])
{
    static const char HEX[] = "0123456789abcdef";
    static const char BRIEF[] = "\"\"\\\\\nn\tt\rr";
    size_t known = brief ? sizeof BRIEF - 1 : 4;
    if (c >= 0x80)
        return SLICE("\xef\xbf\xbd");
    storage[0] = '\\';
    for (size_t i = 0; i < known; i += 2) {
        storage[1] = BRIEF[i + 1];
        if ((unsigned char)BRIEF[i] == c)
            return (struct slice){storage, 2};
    }
    memcpy(storage + 1, "u00", 3);
    storage[4] = HEX[c >> 4];
    storage[5] = HEX[c & 15];
    return (struct slice){storage, JSON_ESCAPE_BYTES};
}

// Bytes at the start that stay as they are.
static size_t plain_len(struct slice text)
{
    static const bool PLAIN[256] = {[0x20 ... 0x21] = true, [0x23 ... 0x5b] = true, [0x5d ... 0x7e] = true};
    size_t at = 0;
    for (size_t n = 1; n > 0; at += n) {
        while (at < text.len && PLAIN[(unsigned char)text.data[at]])
            at++;
        bool ascii = at == text.len || (unsigned char)text.data[at] < 0x80;
        n = ascii ? 0 : utf8_length((struct slice){text.data + at, text.len - at});
    }
    return at;
}

bool json_piece(struct slice *rest, bool brief, char storage[JSON_ESCAPE_BYTES], struct slice *piece)
{
    const char *data = rest->data;
    if (rest->len == 0)
        return false;
    size_t taken = plain_len(*rest);
    *piece = (struct slice){data, taken};
    if (taken == 0) {
        *piece = escape_of((unsigned char)data[0], brief, storage);
        taken = 1;
    }
    *rest = (struct slice){data + taken, rest->len - taken};
    return true;
}

void json_out_quote(struct json_out *out, struct slice text)
{
    char storage[JSON_ESCAPE_BYTES];
    struct slice piece;
    // Nearly all strings are one piece for which there is room.
    if (LIKELY(out->cap - out->len >= text.len + 2 && plain_len(text) == text.len)) {
        char *at = out->data + out->len;
        *at++ = '"';
        if (text.len > 0)
            memcpy(at, text.data, text.len);
        at[text.len] = '"';
        out->len += text.len + 2;
        return;
    }
    JSON_OUT(out, "\"");
    while (json_piece(&text, true, storage, &piece))
        json_out_bytes(out, piece);
    JSON_OUT(out, "\"");
}

// ---- memory ----

void json_out_free(struct json_out *out)
{
    heap_free(out->data);
    *out = (struct json_out){.max = out->max};
}

void json_out_reset(struct json_out *out)
{
    out->len = 0;
    out->status = STATUS_OK;
    out->comma = false;
}

bool json_out_grow(struct json_out *out, size_t more)
{
    size_t cap = out->cap > 0 ? out->cap : FIRST_BYTES;
    if (out->status == STATUS_OK && more > (out->max > 0 ? out->max : SIZE_MAX / 4) - out->len)
        out->status = STATUS_FULL;
    if (out->status != STATUS_OK)
        return false;
    while (cap - out->len < more)
        cap *= 2;
    cap = out->max > 0 && cap > out->max ? out->max : cap;
    char *data = heap_resize(out->data, cap);
    if (data == NULL) {
        out->status = STATUS_NO_MEMORY;
        return false;
    }
    out->data = data;
    out->cap = cap;
    return true;
}

// ---- members and items ----

static void begin(struct json_out *out, const char *name)
{
    if (out->comma)
        JSON_OUT(out, ",");
    out->comma = true;
    if (name == NULL)
        return;
    JSON_OUT(out, "\"");
    json_out_bytes(out, slice_of(name));
    JSON_OUT(out, "\":");
}

void json_out_open(struct json_out *out, const char *name, char bracket)
{
    begin(out, name);
    json_out_bytes(out, (struct slice){&bracket, 1});
    out->comma = false;
}

void json_out_close(struct json_out *out, char bracket)
{
    json_out_bytes(out, (struct slice){&bracket, 1});
    out->comma = true;
}

void json_out_raw(struct json_out *out, const char *name, struct slice json)
{
    begin(out, name);
    json_out_bytes(out, json);
}

void json_out_null(struct json_out *out, const char *name)
{
    json_out_raw(out, name, SLICE("null"));
}

void json_out_bool(struct json_out *out, const char *name, bool yes)
{
    json_out_raw(out, name, yes ? SLICE("true") : SLICE("false"));
}

void json_out_string(struct json_out *out, const char *name, struct slice text)
{
    begin(out, name);
    json_out_quote(out, text);
}

void json_out_text(struct json_out *out, const char *name, const char *text)
{
    if (text != NULL)
        json_out_string(out, name, slice_of(text));
    else
        json_out_null(out, name);
}

void json_out_integer(struct json_out *out, const char *name, int64_t number)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%" PRId64, number);
    json_out_raw(out, name, (struct slice){digits, (size_t)n});
}

void json_out_count(struct json_out *out, const char *name, uint64_t count)
{
    json_out_integer(out, name, count > INT64_MAX ? INT64_MAX : (int64_t)count);
}

void json_out_time(struct json_out *out, const char *name, int64_t time_ms)
{
    if (time_ms != 0)
        json_out_integer(out, name, time_ms);
    else
        json_out_null(out, name);
}

// A real is recognised by its point or its exponent. The exponent is written without '+' and leading zeros.
void json_out_real(struct json_out *out, const char *name, double number)
{
    char digits[32];
    if (!isfinite(number)) {
        json_out_null(out, name);
        return;
    }
    snprintf(digits, sizeof digits - 2, "%.12g", number);
    char *exponent = strchr(digits, 'e');
    if (exponent != NULL) {
        char *from = exponent + 1 + (exponent[1] == '+' || exponent[1] == '-');
        char *to = exponent + 1 + (exponent[1] == '-');
        from += strspn(from, "0");
        memmove(to, from, strlen(from) + 1);
    } else if (strchr(digits, '.') == NULL) {
        memcpy(digits + strlen(digits), ".0", 3);
    }
    json_out_raw(out, name, slice_of(digits));
}
