// SPDX-License-Identifier: Apache-2.0
// What flags cost in the path of a request: nanoseconds to parse a browser's head and write it again, bare
// and with the fields, the version and the arm that a service's flags give it. Each figure is the median of
// nine rounds of CPU time in one process, everything in the first caches.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/eval/image.h"
#include "net/io/sim.h"
#include "net/proxy/proxy_private.h"

enum { ROUNDS = 9, REPEATS = 100000, FLAGS = 8 };

static const char HEAD[] =
    "GET /checkout/cart?item=4711&ref=campaign-17 HTTP/1.1\r\n"
    "Host: shop.example.com\r\n"
    "Connection: keep-alive\r\n"
    "sec-ch-ua-mobile: ?0\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Referer: https://shop.example.com/checkout\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "X-Plan: gold\r\n"
    "Cookie: theme=dark; sid=6f1d2c9be0a7431cb8e1d0a5f3c2b1a0; consent=yes\r\n"
    "\r\n";

static struct worker *worker;
static struct http_request request;
static struct exchange *exchange;
static char image[1 << 16] __attribute__((aligned(FLAGS_IMAGE_ALIGN)));
static struct flags_image set;
static _Atomic uint64_t counts[1024];
static struct flags_tally tally = {counts, ARRAY_LEN(counts)};
static char written[IO_BUF_BYTES];
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

static void compile(void)
{
    static struct flags_json nodes[1 << 14];
    static char json[1 << 14], chars[1 << 12];
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = ARRAY_LEN(nodes), .chars = chars, .char_cap = sizeof chars};
    struct text text = text_over(json, sizeof json);
    text_addf(&text, "{\"flags\":{");
    for (int i = 0; i < FLAGS; i++)
        text_addf(&text,
                  "\"flag-%d\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
                  "\"defaultVariant\":\"off\",\"targeting\":{\"if\":[{\"==\":[{\"var\":\"plan\"},\"gold\"]},"
                  "{\"fractional\":[[\"on\",30],[\"off\",70]]},null]}},",
                  i);
    text_addf(&text, "\"plain\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
                     "\"defaultVariant\":\"on\"}}}");
    struct flags_bundle_document document = {.json = text_slice(&text), .name = "bench"};
    struct flags_patch patch = {.key = SLICE("plain"),
                                .split = true,
                                .split_from = SLICE("on"),
                                .split_to = SLICE("off"),
                                .split_share = 10000};
    struct flags_bundle bundle = {
        .documents = &document, .document_count = 1, .patches = &patch, .patch_count = 1};
    struct flags_compile_options options = {0};
    struct flags_finding problems[4];
    size_t len, problem_count;
    CHECK(flags_bundle_compile(&bundle, &options, &space, image, sizeof image, &len, problems, 4,
                               &problem_count) == STATUS_OK);
    CHECK(flags_image_open(image, len, &set) == STATUS_OK);
    CHECK(flags_image_counter_count(&set) <= ARRAY_LEN(counts));
}

static struct proxy_table *make_table(uint32_t flag_count, bool arm)
{
    static const char *const KEYS[FLAGS] = {"flag-0", "flag-1", "flag-2", "flag-3",
                                            "flag-4", "flag-5", "flag-6", "flag-7"};
    static const struct proxy_attribute_plan CONTEXT[] = {{"plan", PROXY_ATTRIBUTE_HEADER, "X-Plan"},
                                                          {"path", PROXY_ATTRIBUTE_PATH, NULL}};
    static const struct proxy_attribute_plan KEY = {NULL, PROXY_ATTRIBUTE_COOKIE, "sid"};
    struct proxy_flag_header_plan header = {"X-Flags", KEYS, flag_count};
    struct proxy_version_plan version = {.name = "v1"};
    struct proxy_service_plan service = {.name = "bench",
                                         .versions = &version,
                                         .version_count = 1,
                                         .canary = PROXY_VERSION_NONE,
                                         .control = PROXY_VERSION_NONE,
                                         .key = &KEY,
                                         .attributes = CONTEXT,
                                         .attribute_count = ARRAY_LEN(CONTEXT),
                                         .flag_headers = &header,
                                         .flag_header_count = flag_count > 0,
                                         .arm_flag = arm ? "plain" : NULL};
    struct proxy_table_plan plan = {
        .version = 1, .services = &service, .service_count = 1, .flags = &set, .tallies = &tally};
    struct proxy_table *table;
    struct fault why;
    CHECK(proxy_table_build(&plan, &table, &why) == STATUS_OK);
    return table;
}

static void one_request(const struct proxy_service *service)
{
    struct http1_forward forward = {.via = SLICE("sluice"), .peer_address = SLICE("10.0.0.1")};
    struct slice key = {NULL, 0};
    enum http1_reject why;
    size_t head_len;
    CHECK(http1_request_parse(HEAD, sizeof HEAD - 1, NULL, &request, &head_len, &why) == STATUS_OK);
    if (service->flags != NULL) {
        request_flags_begin(worker);
        if (service->flags->arm_flag != PROXY_FLAG_NONE)
            sink += (size_t)request_flags_arm(exchange, service, &key);
        forward.add_count = request_flags_fields(exchange, service, sizeof written);
        forward.add = worker->flags.fields;
    }
    struct http1_writer writer = http1_writer_over(written, sizeof written);
    CHECK(http1_write_request_head(&writer, &request, &forward) == STATUS_OK);
    sink += writer.len;
}

static double measure(uint32_t flag_count, bool arm)
{
    double took[ROUNDS];
    struct proxy_table *table = make_table(flag_count, arm);
    worker->table = table;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns();
        for (int i = 0; i < REPEATS; i++)
            one_request(&table->services[0]);
        took[round] = (now_ns() - begin) / REPEATS;
    }
    proxy_table_destroy(table);
    qsort(took, ROUNDS, sizeof took[0], compare_doubles);
    return took[ROUNDS / 2];
}

int main(void)
{
    const struct io_sim_config config = {.seed = 1, .wall_start_ms = 1700000000000};
    struct io_sim *sim;
    worker = heap_alloc_aligned((sizeof *worker + 63) & ~(size_t)63);
    exchange = heap_alloc(1, sizeof *exchange);
    CHECK(worker != NULL && exchange != NULL);
    CHECK(io_sim_create(&config, &sim) == STATUS_OK);
    CHECK(io_sim_loop_create(sim, &worker->loop) == STATUS_OK);
    worker->request = &request;
    exchange->worker = worker;
    compile();
    double bare = measure(0, false);
    printf("head parsed and written      %7.0f ns\n", bare);
    printf("  1 flag in X-Flags          %+7.0f ns\n", measure(1, false) - bare);
    printf("  8 flags in X-Flags         %+7.0f ns\n", measure(FLAGS, false) - bare);
    printf("  arm of a flag's split      %+7.0f ns\n", measure(0, true) - bare);
    printf("  1 flag and the arm         %+7.0f ns\n", measure(1, true) - bare);
    printf("(each flag: one comparison and one fractional; two attributes and a key; checksum %zu)\n",
           sink % 10);
    io_loop_destroy(worker->loop);
    io_sim_destroy(sim);
    heap_free(worker);
    heap_free(exchange);
    return 0;
}
