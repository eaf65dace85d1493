// SPDX-License-Identifier: Apache-2.0
// Our parser of heads for heads.py: reads requests, each behind its length of four bytes (little-endian), and
// writes a line for each: "refused WORD", "more" (it is not complete), or what was read, its parts divided by
// \x1f.
#include <stdio.h>

#include "base/check.h"
#include "net/http/http1.h"

enum { INPUT_BYTES_MAX = 1 << 16 };

static void say(struct slice text)
{
    putchar('\x1f');
    (void)fwrite(text.data, 1, text.len, stdout);
}

static void say_request(const struct http_request *request)
{
    printf("taken");
    say(request->method);
    say(request->target);
    printf("\x1f%u\x1f", request->version_minor);
    if (request->framing == HTTP_FRAMING_LENGTH && request->content_length > 0)
        printf("length %llu", (unsigned long long)request->content_length);
    else
        printf("%s", request->framing == HTTP_FRAMING_CHUNKED ? "chunked" : "none");
    printf("\x1f%s\x1f%s", request->keep_alive ? "stays" : "closes",
           request->upgrade.len > 0 ? "upgrade" : "");
    for (uint32_t i = 0; i < request->fields.count; i++) {
        say(request->fields.items[i].name);
        say(request->fields.items[i].value);
    }
}

int main(void)
{
    static char bytes[INPUT_BYTES_MAX];
    static struct http_request request;
    uint8_t length[4];
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); // who asks waits for each line
    while (fread(length, 1, sizeof length, stdin) == sizeof length) {
        size_t len =
            (size_t)length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 | (size_t)length[3] << 24;
        CHECK(len <= sizeof bytes && fread(bytes, 1, len, stdin) == len);
        size_t head_len;
        enum http1_reject why;
        enum status status = http1_request_parse(bytes, len, NULL, &request, &head_len, &why);
        if (status == STATUS_OK)
            say_request(&request);
        else
            printf(status == STATUS_AGAIN ? "more" : "refused %s",
                   status == STATUS_AGAIN ? "" : http1_reject_word(why));
        putchar('\n');
    }
    return 0;
}
