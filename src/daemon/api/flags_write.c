// SPDX-License-Identifier: Apache-2.0
// JSON as text, and the answers made of it.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "daemon/api/flags.h"

enum { OUT_FIRST_BYTES = 4096 };

static bool out_room(struct api_out *out, size_t bytes)
{
    if (out->failed || out->cap - out->len >= bytes)
        return !out->failed;
    size_t cap = out->cap > 0 ? out->cap : OUT_FIRST_BYTES;
    while (cap - out->len < bytes)
        cap *= 2;
    char *grown = heap_resize(out->data, cap);
    out->failed = grown == NULL;
    if (grown == NULL)
        return false;
    out->data = grown;
    out->cap = cap;
    return true;
}

static void out_bytes(struct api_out *out, const char *data, size_t len)
{
    if (len == 0 || !out_room(out, len))
        return;
    memcpy(out->data + out->len, data, len);
    out->len += len;
}

static void out_begin(struct api_out *out)
{
    if (out->comma)
        out_bytes(out, ",", 1);
    out->comma = true;
}

void api_out_open(struct api_out *out, char bracket)
{
    out_begin(out);
    out_bytes(out, &bracket, 1);
    out->comma = false;
}

void api_out_close(struct api_out *out, char bracket)
{
    out_bytes(out, &bracket, 1);
    out->comma = true;
}

void api_out_key(struct api_out *out, const char *name)
{
    out_begin(out);
    out_bytes(out, "\"", 1);
    out_bytes(out, name, strlen(name));
    out_bytes(out, "\":", 2);
    out->comma = false;
}

void api_out_raw(struct api_out *out, struct slice json)
{
    out_begin(out);
    out_bytes(out, json.data, json.len);
}

// Names come from people too: what is no UTF-8 must not make the whole answer unreadable.
void api_out_string(struct api_out *out, struct slice text)
{
    bool valid = flags_utf8_valid(text);
    out_begin(out);
    out_bytes(out, "\"", 1);
    size_t plain = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && (valid || c < 0x80))
            continue;
        char escape[8] = "?";
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", c);
        else if (c < 0x80)
            snprintf(escape, sizeof escape, "\\u%04x", c);
        out_bytes(out, text.data + plain, i - plain);
        out_bytes(out, escape, strlen(escape));
        plain = i + 1;
    }
    out_bytes(out, text.data + plain, text.len - plain);
    out_bytes(out, "\"", 1);
}

void api_out_text(struct api_out *out, const char *text)
{
    if (text != NULL)
        api_out_string(out, slice_of(text));
    else
        api_out_null(out);
}

void api_out_integer(struct api_out *out, int64_t number)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%" PRId64, number);
    api_out_raw(out, (struct slice){digits, (size_t)n});
}

void api_out_count(struct api_out *out, uint64_t count)
{
    api_out_integer(out, count > INT64_MAX ? INT64_MAX : (int64_t)count);
}

void api_out_time(struct api_out *out, int64_t time_ms)
{
    if (time_ms != 0)
        api_out_integer(out, time_ms);
    else
        api_out_null(out);
}

void api_out_bool(struct api_out *out, bool yes)
{
    api_out_raw(out, yes ? SLICE("true") : SLICE("false"));
}

void api_out_null(struct api_out *out)
{
    api_out_raw(out, SLICE("null"));
}

void api_flags_answer(struct api_answer *answer, unsigned status, struct api_out *out)
{
    out_bytes(out, "\n", 1);
    if (out->len > API_FLAGS_ANSWER_BYTES_MAX) {
        heap_free(out->data);
        *out = (struct api_out){0};
        api_flags_error(answer, 413, "too_large",
                        "the answer would be larger than 16 MiB: ask the sources themselves");
        return;
    }
    answer->status = out->failed ? 500 : status;
    answer->content_type = "application/json";
    if (out->failed)
        heap_free(out->data);
    answer->body = out->failed ? NULL : out->data;
    answer->body_len = out->failed ? 0 : out->len;
    *out = (struct api_out){0};
}

void api_flags_error(struct api_answer *answer, unsigned status, const char *code, const char *message)
{
    struct api_out out = {0};
    api_out_open(&out, '{');
    api_out_key(&out, "error");
    api_out_open(&out, '{');
    api_out_key(&out, "code");
    api_out_text(&out, code);
    api_out_key(&out, "message");
    api_out_text(&out, message);
    api_out_close(&out, '}');
    api_out_close(&out, '}');
    api_flags_answer(answer, status, &out);
}

void api_flags_refusal(struct api_answer *answer, enum status status, const char *message)
{
    static const struct {
        enum status status;
        unsigned http;
        const char *code;
    } table[] = {
        {STATUS_INVALID, 400, "invalid"},     {STATUS_RANGE, 400, "invalid"},
        {STATUS_NOT_FOUND, 404, "not_found"}, {STATUS_CONFLICT, 409, "conflict"},
        {STATUS_DENIED, 403, "denied"},       {STATUS_FULL, 409, "full"},
        {STATUS_NO_MEMORY, 503, "memory"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].status == status) {
            api_flags_error(answer, table[i].http, table[i].code, message);
            return;
        }
    }
    api_flags_error(answer, 503, "journal", message);
}
