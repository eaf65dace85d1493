// SPDX-License-Identifier: Apache-2.0
// What a head costs: nanoseconds to parse, to write again, and both, for a small request, a browser's and a
// response. Each figure is the median of nine rounds in one process, on heads that stay in the first cache.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "net/http/http1_write.h"

#define ROUNDS 9
#define REPEATS 200000

static const char small[] =
    "GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: load/1.0\r\nAccept: */*\r\n\r\n";
static const char browser[] =
    "GET /checkout/cart?item=4711&ref=campaign-17 HTTP/1.1\r\n"
    "Host: shop.example.com\r\n"
    "Connection: keep-alive\r\n"
    "Cache-Control: max-age=0\r\n"
    "sec-ch-ua: \"Chromium\";v=\"126\", \"Not.A/Brand\";v=\"24\"\r\n"
    "sec-ch-ua-mobile: ?0\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 "
    "Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Referer: https://shop.example.com/checkout\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "Cookie: sid=6f1d2c9be0a7431cb8e1d0a5f3c2b1a0; theme=dark; consent=yes\r\n"
    "\r\n";
static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Server: origin/1.27\r\n"
                             "Date: Sat, 21 Nov 2026 09:45:00 GMT\r\n"
                             "Content-Type: application/json\r\n"
                             "Content-Length: 512\r\n"
                             "Cache-Control: no-store\r\n"
                             "ETag: \"5f3c2b1a0\"\r\n"
                             "X-Request-Id: 01J9Z8Q4\r\n"
                             "\r\n";

static struct http_request request;
static struct http_response response;
static char written[4096];
static size_t sink;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void parse_request(struct slice head)
{
    size_t head_len = 0;
    enum http1_reject why;
    CHECK(http1_request_parse(head.data, head.len, NULL, &request, &head_len, &why) == STATUS_OK);
    sink += head_len;
}

static void write_request(struct slice head)
{
    static const struct http1_forward forward = {
        .via = {"sluice", 6}, .peer_address = {"192.0.2.17", 10}, .protocol = {"http", 4}};
    struct http1_writer writer = http1_writer_over(written, sizeof written);
    (void)head;
    CHECK(http1_write_request_head(&writer, &request, &forward) == STATUS_OK);
    sink += writer.len;
}

static void both_request(struct slice head)
{
    parse_request(head);
    write_request(head);
}

static void parse_response(struct slice head)
{
    size_t head_len = 0;
    enum http1_reject why;
    CHECK(http1_response_parse(head.data, head.len, NULL, HTTP_METHOD_GET, &response, &head_len, &why) ==
          STATUS_OK);
    sink += head_len;
}

static void write_response(struct slice head)
{
    static const struct http1_forward forward = {.via = {"sluice", 6}};
    struct http1_writer writer = http1_writer_over(written, sizeof written);
    (void)head;
    CHECK(http1_write_response_head(&writer, &response, &forward) == STATUS_OK);
    sink += writer.len;
}

static void both_response(struct slice head)
{
    parse_response(head);
    write_response(head);
}

static void measure(const char *what, struct slice head, void (*work)(struct slice))
{
    double rounds[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        double start = now_ns();
        for (int i = 0; i < REPEATS; i++)
            work(head);
        rounds[r] = (now_ns() - start) / REPEATS;
    }
    qsort(rounds, ROUNDS, sizeof rounds[0], compare_doubles);
    printf("%-28s %5zu bytes %8.1f ns (best %.1f)\n", what, head.len, rounds[ROUNDS / 2], rounds[0]);
}

int main(void)
{
    const struct slice small_head = SLICE(small);
    const struct slice browser_head = SLICE(browser);
    const struct slice answer_head = SLICE(answer);
    measure("small request: parse", small_head, parse_request);
    measure("small request: write", small_head, write_request);
    measure("small request: both", small_head, both_request);
    measure("browser request: parse", browser_head, parse_request);
    measure("browser request: write", browser_head, write_request);
    measure("browser request: both", browser_head, both_request);
    measure("response: parse", answer_head, parse_response);
    measure("response: write", answer_head, write_response);
    measure("response: both", answer_head, both_response);
    return sink == 0;
}
