// SPDX-License-Identifier: Apache-2.0
// api: the guide's list of addresses is what the tables print (SLUICE_REGENERATE=1 writes it); addresses and
// methods that no row has; who asks; what a refusal is on the wire.
#include "targets_bench.h"

#include "base/heap.h"
#include "daemon/api/api_private.h"
#include "test.h"

static const char GUIDE[] = "docs/guide/api.md";
static char stored[1 << 16];
static char printed[API_ROUTES_BYTES_MAX];

static void guide_read(void)
{
    FILE *file = fopen(GUIDE, "r");
    assert_non_null(file);
    stored[fread(stored, 1, sizeof stored - 1, file)] = '\0';
    fclose(file);
}

TEST(guide)
{
    struct text text = text_over(printed, sizeof printed);
    api_routes_write(&text);
    assert_false(text.cut);
    guide_read();
    char *begin = strstr(stored, "<!-- addresses");
    char *end = strstr(stored, "<!-- end of addresses -->");
    assert_true(begin != NULL && end != NULL);
    begin = strchr(begin, '\n') + 1;
    bool same = (size_t)(end - begin) == text.len && memcmp(begin, printed, text.len) == 0;
    if (!same && getenv("SLUICE_REGENERATE") != NULL) {
        FILE *file = fopen(GUIDE, "w");
        assert_non_null(file);
        fprintf(file, "%.*s%s%s", (int)(begin - stored), stored, printed, end);
        fclose(file);
    } else if (!same) {
        fail_msg("%s is out of date; run this test with SLUICE_REGENERATE=1 and commit it", GUIDE);
    }
}

// One call without a socket; its text is NUL-terminated.
static struct api_call call;
static struct bench bench;
static const struct api_program *program;
static struct slice query;

static const char *ask(const char *method, const char *path, const char *body)
{
    json_out_free(&call.out);
    call = (struct api_call){.engine = bench.engine,
                             .program = program,
                             .method = slice_of(method),
                             .path = slice_of(path),
                             .query = query,
                             .body = slice_of(body),
                             .host = SLICE("localhost"),
                             .who = call.who,
                             .from = "127.0.0.1:1"};
    api_handle(&call);
    json_out_bytes(&call.out, (struct slice){"", 1});
    return call.out.data;
}

static void expect(const char *method, const char *path, unsigned status, const char *part, const char *allow)
{
    const char *text = ask(method, path, "");
    if (call.status != status || strstr(text, part) == NULL || strcmp(call.allow, allow) != 0)
        fail_msg("%s %s: %u, Allow: %s, %s", method, path, call.status, call.allow, text);
}

TEST(stable_version)
{
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    call.who = (struct slice){"", 0};
    static const char word[] = "\"stable\":\"v1\",\"stable_in_file\":\"v1\",\"stable_by\":null,";
    expect("GET", "/v1/status", 200, word, "");
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    expect("GET", "/v1/table", 200, "\"canary\":\"v2\",\"weight\":0.1", "");
    for (int i = 0; i < 2; i++)
        assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_APPROVE), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    static const char fact[] =
        "\"stable\":\"v2\",\"stable_in_file\":\"v1\",\"stable_by\":{\"rollout\":\"ship\",\"undone\":false,";
    expect("GET", "/v1/status", 200, fact, "");
    expect("GET", "/v1/table", 200, fact, "");
    expect("GET", "/v1/table", 200, "\"canary\":null,\"weight\":0.0,", "");
    json_out_free(&call.out);
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(addresses)
{
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    call.who = (struct slice){"", 0};
    expect("GET", "/v1/status", 200, "\"rollouts\":[{\"name\":\"ship\"", "");
    expect("HEAD", "/v1/status", 200, "\"version\"", "");
    expect("GET", "/v1/rollouts/ship", 200, "\"checks\":[", "");
    expect("GET", "/v1/rollouts/sh%69p", 200, "\"name\":\"ship\"", "");
    expect("GET", "/v1/table", 200, "\"control_endpoints\":[]", "");
    // Methods that an address does not have.
    expect("PUT", "/v1/status", 405, "this address answers GET, HEAD", "GET, HEAD");
    expect("POST", "/v1/rollouts", 405, "\"method\"", "GET, HEAD");
    expect("POST", "/v1/rollouts/ship/history", 405, "\"method\"", "GET, HEAD");
    expect("POST", "/v1/rollouts/ship/events", 405, "\"method\"", "GET, HEAD");
    expect("GET", "/v1/rollouts/ship/pause", 405, "this address answers POST", "POST");
    expect("GET", "/v1/events", 405, "\"method\"", "POST");
    expect("OPTIONS", "/metrics", 405, "\"method\"", "GET, HEAD");
    // Addresses that nothing has.
    static const char *const nowhere[] = {"/",
                                          "",
                                          "/v1",
                                          "/v1/",
                                          "/v1/statuses",
                                          "/v1/status/x",
                                          "/v1/flagship",
                                          "/v1/rollouts/ship/pause/x",
                                          "/v1/eventss",
                                          "/METRICS",
                                          "*"};
    for (size_t i = 0; i < ARRAY_LEN(nowhere); i++)
        expect("GET", nowhere[i], 404, "nothing here; see /v1/rollouts, /v1/flags, /v1/events, /v1/status",
               "");
    expect("POST", "/v1/rollouts/ship/explode", 404, "no such command", "");
    expect("GET", "/v1/rollouts/shpi", 404, "did you mean 'ship'?", "");
    expect("GET", "/v1/rollouts/%00", 400, "percent-encoded", "");
    expect("GET", "/v1/rollouts/%c3", 400, "percent-encoded", "");
    expect("GET", "/v1/flags/x", 409, "the file has no flags", "");
    json_out_free(&call.out);
    bench_down(&bench);
    bench_forget(&bench);
}

static enum status reload_fake(void *context, struct text *told)
{
    const enum status *outcome = context;
    text_addf(told, *outcome == STATUS_OK ? "later: workers" : "no good:\n  line 3");
    return *outcome;
}

static enum status upgrade_fake(void *context)
{
    return *(const enum status *)context;
}

static void supervisor_fake(void *context, struct api_supervisor *supervisor)
{
    *supervisor = (struct api_supervisor){.present = *(const enum status *)context == STATUS_OK,
                                          .upgraded = true,
                                          .deaths = 2,
                                          .refused = 1,
                                          .why = "killed by \"9\"",
                                          .refusal = "no"};
}

TEST(upgrade)
{
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    enum status outcome = STATUS_OK;
    const struct api_program fake = {&outcome, reload_fake, upgrade_fake, supervisor_fake, NULL};
    expect("POST", "/v1/upgrade", 409, "serve with --supervise", "");
    expect("GET", "/v1/status", 200, "\"supervisor\":null", "");
    program = &fake;
    expect("POST", "/v1/upgrade", 200, "{\"process\":", "");
    expect(
        "GET", "/v1/status", 200,
        "\"supervisor\":{\"upgraded\":true,\"deaths\":2,\"why\":\"killed by \\\"9\\\"\",\"upgrades_refused\":1,"
        "\"refusal\":\"no\"}",
        "");
    outcome = STATUS_NOT_FOUND;
    expect("POST", "/v1/upgrade", 409, "serve with --supervise", "");
    expect("GET", "/v1/status", 200, "\"supervisor\":null", "");
    program = NULL;
    json_out_free(&call.out);
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(reload)
{
    enum status outcome = STATUS_OK;
    const struct api_program fake = {&outcome, reload_fake, upgrade_fake, supervisor_fake, NULL};
    expect("POST", "/v1/reload", 409, "this daemon was not started from a file", "");
    program = &fake;
    expect("POST", "/v1/reload", 200, "{\"in_force\":true,\"told\":\"later: workers\"}", "");
    outcome = STATUS_INVALID;
    expect("POST", "/v1/reload", 409, "no good:\\n  line 3", "");
    program = NULL;
    expect("GET", "/v1/reload", 405, "this address answers POST", "POST");
    json_out_free(&call.out);
}

static void expect_who(struct slice field, const char *body, const char *wanted)
{
    struct api_body read;
    char who[ROLLOUT_WHO_BYTES];
    struct api_call asked = {.who = field, .body = slice_of(body)};
    assert_true(api_body_read(&asked, &read));
    api_who(&asked, read.root, who);
    assert_string_equal(who, wanted);
    api_body_free(&read);
}

TEST(who)
{
    expect_who(SLICE(""), "", "api");
    expect_who(SLICE("bob"), "", "bob");
    expect_who(SLICE("bob"), "{\"who\":\"ann\"}", "ann");
    expect_who(SLICE("bob"), "{\"who\":\"\"}", "bob");
    expect_who(SLICE("bob"), "{\"who\":7}", "bob");
    expect_who(SLICE("r\xe9mi"), "", "r?mi");
    expect_who(SLICE("r\xc3\xa9mi"), "", "r\xc3\xa9mi");
    expect_who(SLICE(""), "{\"who\":\"a\\u001b[2J\\r\\nb\\u0000c\"}", "a?[2J??b?c");
    expect_who(SLICE(""), "{\"who\":\"a\\u009b2Jb\\u202ec\\u2028d\\u2066e\"}", "a?2Jb?c?d?e");
    // Cut between two characters.
    char name[ROLLOUT_WHO_BYTES * 2 + 1], wanted[ROLLOUT_WHO_BYTES];
    memset(name, 'x', sizeof name);
    memcpy(name + ROLLOUT_WHO_BYTES - 2, "\xe2\x82\xac", 3);
    memcpy(wanted, name, sizeof wanted);
    wanted[ROLLOUT_WHO_BYTES - 2] = '\0';
    expect_who((struct slice){name, sizeof name - 1}, "", wanted);
}

// Two paths, the second of them with an example, of a service or of a rollout.
static enum status diff_fake(void *context, struct slice service, struct slice rollout,
                             struct shadow_report **report)
{
    static struct diff_comparison found;
    (void)context;
    if (!slice_equal(service, SLICE("shop")) && !slice_equal(rollout, SLICE("ship")))
        return STATUS_NOT_FOUND;
    struct shadow_report *made = heap_alloc(1, sizeof *made + sizeof made->examples[0]);
    assert_non_null(made);
    found.count = 2;
    found.findings[0] =
        (struct diff_finding){.path = "body.a", .path_hash = 1, .count = 1, .kind = DIFF_ADDED};
    found.findings[1] =
        (struct diff_finding){.path = "body.b", .path_hash = 2, .count = 1, .kind = DIFF_VALUE};
    diff_noise_add(&made->noise, &found, NULL);
    made->judged_count = diff_noise_judge(&made->noise, 0.01, 0.05, made->judged);
    made->counts.sent = made->counts.pairs = made->counts.differed = 1;
    memcpy(made->primary, "v1", 3);
    memcpy(made->candidate, "v2", 3);
    made->example_count = 1;
    made->examples[0] =
        (struct shadow_example){.rank = 2, .count = 1, .target = "/cart", .candidate = "\"7\""};
    *report = made;
    return STATUS_OK;
}

TEST(differences_of_answers)
{
    struct api_program fake = {.diff = NULL};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    static const char none[] = "no requests were mirrored for shop, so there is nothing to compare";
    expect("GET", "/v1/services/shop/diff", 404, none, "");
    program = &fake;
    expect("GET", "/v1/services/shop/diff", 404, none, "");
    fake.diff = diff_fake;
    expect("GET", "/v1/services/other/diff", 404, "no requests were mirrored for other", "");
    expect("GET", "/v1/rollouts/nowhere/diff", 404, "not_found", "");
    expect("POST", "/v1/services/shop/diff", 405, "\"method\"", "GET, HEAD");
    expect("GET", "/v1/rollouts/ship/diff", 200, "\"paths\":{\"different\":0,\"noisy\":0,\"undecided\":2}",
           "");
    const char *text = ask("GET", "/v1/services/shop/diff", "");
    assert_non_null(strstr(text,
                           "\"path\":\"body.a\",\"kind\":\"added\",\"verdict\":\"undecided\",\"words\":"
                           "\"v2 adds body.a in all of 1 request; v1 was never asked twice, so noise is not "
                           "known: too few to tell from chance.\""));
    assert_non_null(strstr(text, "\"target\":\"/cart\""));
    query = SLICE("path=body.a*");
    text = ask("GET", "/v1/services/shop/diff", "");
    assert_true(strstr(text, "body.a") != NULL && strstr(text, "body.b") == NULL &&
                strstr(text, "/cart") == NULL);
    query = SLICE("");
    program = NULL;
    json_out_free(&call.out);
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(refusals)
{
    static const struct {
        enum status status;
        unsigned http;
        const char *code;
    } cases[] = {{STATUS_INVALID, 400, "invalid"},   {STATUS_NOT_FOUND, 404, "not_found"},
                 {STATUS_CONFLICT, 409, "conflict"}, {STATUS_DENIED, 403, "denied"},
                 {STATUS_FULL, 409, "full"},         {STATUS_NO_MEMORY, 503, "memory"},
                 {STATUS_NO_SPACE, 503, "journal"},  {STATUS_IO, 503, "journal"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char wanted[80];
        struct api_call refused = {.status = 200};
        json_out_open(&refused.out, NULL, '[');
        api_refuse(&refused, cases[i].status, "no \xff\n");
        snprintf(wanted, sizeof wanted, "{\"error\":{\"code\":\"%s\",\"message\":\"no \xef\xbf\xbd\\n\"}}",
                 cases[i].code);
        assert_int_equal(refused.status, cases[i].http);
        assert_true(slice_equal(json_out_slice(&refused.out), slice_of(wanted)));
        json_out_free(&refused.out);
    }
}
