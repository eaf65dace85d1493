// SPDX-License-Identifier: Apache-2.0
// Cases written by others: the llhttp fixtures and the http11probe list, at parser level. Where the verdicts
// differ, a table here names the reason; a difference without a reason fails. The cases stay where they are
// (SLUICE_CONFORMANCE).
#include <dirent.h>
#include <jansson.h>
#include <unistd.h>

#include "base/check.h"
#include "net/http/http1_write.h"
#include "test.h"

#define FILE_BYTES_MAX (1 << 20)
#define CASE_BYTES_MAX 131072

static char root[512];

static bool find_root(void)
{
    const char *given = getenv("SLUICE_CONFORMANCE");
    const char *const places[] = {given != NULL ? given : "", "../shared/conformance",
                                  "../../shared/conformance"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        snprintf(root, sizeof root, "%s/http1", places[i]);
        if (places[i][0] != '\0' && access(root, R_OK) == 0)
            return true;
    }
    printf("SKIPPED: conformance cases not found (set SLUICE_CONFORMANCE)\n");
    return false;
}

// What a stream of messages came to.
struct outcome {
    enum http1_reject why;
    bool complete;   // every byte belongs to a whole message
    bool upgraded;   // an upgrade request or a 101 ended it
    unsigned closed; // bytes follow a message after which the connection closes
    unsigned messages;
    unsigned heads;
    unsigned fields;
    uint64_t body_bytes;
    bool host_added;
    bool head_open; // the last head is not complete
};

static struct http_request request;
static struct http_response response;

// A fixture without Host would end at that; one is put in, so that the rest of it is tried as well.
static size_t add_host(char *bytes, size_t len, size_t at)
{
    static const char host[] = "Host: x\r\n";
    const char *line_end = memchr(bytes + at + 2, '\n', len - at - 2);
    CHECK(line_end != NULL);
    size_t place = (size_t)(line_end - bytes) + 1;
    memmove(bytes + place + sizeof host - 1, bytes + place, len - place);
    memcpy(bytes + place, host, sizeof host - 1);
    return len + sizeof host - 1;
}

static bool take_body(struct outcome *o, struct http1_body *body, const char *bytes, size_t len, size_t *at)
{
    while (*at < len && !body->done) {
        size_t used = 0;
        struct slice payload;
        enum status status = http1_body_next(body, bytes + *at, len - *at, &used, &payload);
        if (status != STATUS_OK && status != STATUS_AGAIN) {
            o->why = (enum http1_reject)body->reject;
            return false;
        }
        o->body_bytes += payload.len;
        *at += used;
    }
    if (body->done && body->framing == HTTP_FRAMING_CHUNKED) {
        static struct http_fields trailers;
        CHECK(http1_body_trailers(body, &trailers) == STATUS_OK);
        o->fields += trailers.count;
    }
    if (body->framing == HTTP_FRAMING_UNTIL_CLOSE)
        CHECK(http1_body_finish(body) == STATUS_OK);
    // Where the end is the close, the fixtures count no end.
    o->messages += body->done && body->framing != HTTP_FRAMING_UNTIL_CLOSE;
    return body->done;
}

static enum status parse_head(const char *bytes, size_t len, bool responses, size_t *head_len,
                              enum http1_reject *why)
{
    return responses ? http1_response_parse(bytes, len, NULL, HTTP_METHOD_GET, &response, head_len, why)
                     : http1_request_parse(bytes, len, NULL, &request, head_len, why);
}

// We judge a head when it is whole; llhttp judges as it goes. So an open head is closed to hear our verdict.
static void close_head(struct outcome *o, char *bytes, size_t len, bool responses)
{
    size_t head_len;
    o->head_open = true;
    memcpy(bytes + len, "\r\n\r\n", 4);
    size_t more = len > 0 && bytes[len - 1] == '\n' ? 2 : 4;
    (void)!parse_head(bytes, len + more, responses, &head_len, &o->why);
}

static void run(struct outcome *o, char *bytes, size_t len, bool responses, bool help)
{
    static char trailers[HTTP1_TRAILER_BYTES_MAX];
    *o = (struct outcome){0};
    size_t at = 0;
    bool keep = true;
    while (at < len) {
        size_t head_len = 0;
        enum http1_reject why = HTTP1_REJECT_NONE;
        o->closed += !keep;
        enum status status = parse_head(bytes + at, len - at, responses, &head_len, &why);
        if (help && why == HTTP1_REJECT_HOST_MISSING) {
            len = add_host(bytes, len, at);
            o->host_added = true;
            o->fields--;
            continue;
        }
        o->why = why;
        if (status == STATUS_AGAIN && help)
            close_head(o, bytes + at, len - at, responses);
        if (status != STATUS_OK)
            return;
        at += head_len;
        o->heads++;
        o->fields += responses ? response.fields.count : request.fields.count;
        keep = responses ? response.keep_alive || response.informational : request.keep_alive;
        struct http1_body body;
        uint64_t length = responses ? response.content_length : request.content_length;
        http1_body_init(&body, (enum http_framing)(responses ? response.framing : request.framing), length,
                        NULL, trailers, sizeof trailers);
        if (!take_body(o, &body, bytes, len, &at))
            return;
        o->upgraded = responses ? response.status == 101 : request.upgrade.len > 0;
        if (o->upgraded)
            return;
    }
    o->complete = true;
}

static bool read_file(const char *path, char *text)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    size_t n = fread(text, 1, FILE_BYTES_MAX - 1, file);
    fclose(file);
    text[n] = '\0';
    return true;
}

// ---- llhttp

// Why we refuse what llhttp accepts. A rule of ours each; anything else is a failure.
static const char *const stricter[HTTP1_REJECT_COUNT] = {
    [HTTP1_REJECT_LEADING_LINES] = "one empty line before a request is tolerated, none before a response",
    [HTTP1_REJECT_START_LINE] = "no HTTP/0.9, no ICY",
    [HTTP1_REJECT_CONNECT] = "no forward proxy",
    [HTTP1_REJECT_TARGET] = "no fragment, no byte outside visible ASCII, http and https only",
    [HTTP1_REJECT_VERSION_UNKNOWN] = "versions 1.0 and 1.1 only",
    [HTTP1_REJECT_STATUS_CODE] = "status codes 100 to 599 only",
    [HTTP1_REJECT_FOLD] = "obs-fold is refused",
    [HTTP1_REJECT_HOST] = "Host must be a host",
    [HTTP1_REJECT_CODING] = "the coding must be chunked and nothing else",
    [HTTP1_REJECT_CODING_UNKNOWN] = "no coding but chunked is decoded",
    [HTTP1_REJECT_CODING_VERSION] = "no Transfer-Encoding in HTTP/1.0",
    [HTTP1_REJECT_LENGTH_AND_CODING] = "Content-Length beside Transfer-Encoding, also in responses",
    [HTTP1_REJECT_CONTENT_LENGTH_REPEATED] = "Content-Length only once",
    [HTTP1_REJECT_CODING_MISPLACED] = "no Transfer-Encoding in 1xx and 204",
    [HTTP1_REJECT_CONNECTION] = "Connection must be a list of tokens",
    [HTTP1_REJECT_VERSION] = "HTTP only, written exactly so",
    [HTTP1_REJECT_CHUNK_EXTENSION] = "chunk extensions without blanks",
};

// Cases by title where we accept what llhttp refuses, or see another number of things, and why that is right.
static const struct {
    const char *title;
    const char *reason;
} named[] = {
    {"HTTP protocol and ANNOUNCE method", "any token is a method: the origin knows its own"},
    {"Invalid method", "any token is a method: the origin knows its own"},
    {"Content-Length reset when no body is received",
     "the fixture tells llhttp to skip the body; we read what is declared"},
};

static const char *named_reason(const char *title)
{
    for (size_t i = 0; i < ARRAY_LEN(named); i++)
        if (strcmp(named[i].title, title) == 0)
            return named[i].reason;
    return NULL;
}

struct fixture {
    char title[256];
    char type[64];
    char log[65536];
    char input[CASE_BYTES_MAX];
    size_t input_len;
};

struct tally {
    unsigned cases, same, stricter, lenient, named, host_added, failed;
};

static unsigned count_of(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word))
        n++;
    return n;
}

static uint64_t body_bytes_of(const char *log)
{
    uint64_t sum = 0;
    for (const char *at = log; (at = strstr(at, "span[body]")) != NULL; at += 10) {
        const char *len = at;
        while (len > log && strncmp(len, "len=", 4) != 0)
            len--;
        sum += strtoull(len + 4, NULL, 10);
    }
    return sum;
}

// Pauses (21 to 23) are not refusals; 22 and 23 end the parse.
static int error_of(const char *log)
{
    const char *at = strstr(log, "error code=");
    return at != NULL ? (int)strtol(at + 11, NULL, 10) : 0;
}

// The fixture text: line ends become CRLF, a backslash at a line's end joins it to the next, \r \n \t \f are
// themselves.
static void fixture_input(struct fixture *f, const char *from, const char *to)
{
    size_t n = 0;
    if (to > from && to[-1] == '\n')
        to--;
    for (const char *p = from; p < to; p++) {
        if (*p == '\\' && p + 1 < to && p[1] == '\n') {
            p++;
        } else if (*p == '\\' && p + 1 < to && strchr("rntf", p[1]) != NULL) {
            f->input[n++] = p[1] == 'r' ? '\r' : p[1] == 'n' ? '\n' : p[1] == 't' ? '\t' : '\f';
            p++;
        } else if (*p == '\\' && p + 3 < to && p[1] == 'x') {
            char hex[3] = {p[2], p[3], 0};
            f->input[n++] = (char)strtoul(hex, NULL, 16);
            p += 3;
        } else {
            if (*p == '\n')
                f->input[n++] = '\r';
            f->input[n++] = *p;
        }
    }
    f->input_len = n;
}

static bool same_shape(const struct fixture *f, const struct outcome *o)
{
    return o->messages == count_of(f->log, "message complete") &&
           o->heads == count_of(f->log, "headers complete") &&
           (o->head_open || o->fields == count_of(f->log, "header_field complete")) &&
           o->body_bytes == body_bytes_of(f->log);
}

static void judge(struct fixture *f, const char *file, struct tally *t)
{
    struct outcome o;
    int error = error_of(f->log);
    bool refused_there = error != 0 && (error < 21 || error > 23);
    bool lenient = strstr(f->type, "lenient") != NULL;
    run(&o, f->input, f->input_len, strncmp(f->type, "response", 8) == 0, true);
    // What only the closing of an open head showed counts against a refusal there, not against an acceptance.
    if (o.head_open && !refused_there)
        o.why = HTTP1_REJECT_NONE;
    bool refused_here = o.why != HTTP1_REJECT_NONE;
    t->cases++;
    t->host_added += o.host_added;
    if (lenient && refused_here) {
        t->lenient++;
    } else if (refused_there &&
               (refused_here || (error == 5 && o.closed > 0) || (error == 2 && o.closed > 0))) {
        t->same++; // refused, or the connection would have been closed before those bytes
    } else if (!refused_there && !refused_here && same_shape(f, &o)) {
        t->same++;
    } else if (!refused_there && refused_here && stricter[o.why] != NULL) {
        t->stricter++;
        printf("  stricter: %s: %s: %s\n", file, f->title, stricter[o.why]);
    } else if (named_reason(f->title) != NULL) {
        t->named++;
        printf("  named: %s: %s: %s\n", file, f->title, named_reason(f->title));
    } else {
        t->failed++;
        printf("  DIFFERS: %s: %s (%s): error %d, ours %s; messages %u/%u heads %u/%u fields %u/%u body "
               "%llu/%llu\n",
               file, f->title, f->type, error, http1_reject_word(o.why), o.messages,
               count_of(f->log, "message complete"), o.heads, count_of(f->log, "headers complete"), o.fields,
               count_of(f->log, "header_field complete"), (unsigned long long)o.body_bytes,
               (unsigned long long)body_bytes_of(f->log));
    }
}

static void copy_line(char *to, size_t cap, const char *from)
{
    size_t n = strcspn(from, "\n");
    if (n >= cap)
        n = cap - 1;
    memcpy(to, from, n);
    to[n] = '\0';
}

// Walks the Markdown: headings, the meta comment's type, fenced http and log blocks.
static void run_markdown(const char *path, const char *file, struct tally *t)
{
    static char text[FILE_BYTES_MAX];
    static struct fixture f;
    assert_true(read_file(path, text));
    for (char *line = text; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        if (line[0] == '#')
            copy_line(f.title, sizeof f.title, line + strspn(line, "# "));
        if (strncmp(line, "<!-- meta=", 10) == 0) {
            const char *type = strstr(line, "\"type\"") + 6;
            type += strspn(type, ": \"");
            snprintf(f.type, sizeof f.type, "%.*s", (int)strcspn(type, "\""), type);
        }
        if (strncmp(line, "```http", 7) == 0 || strncmp(line, "```log", 6) == 0) {
            char *from = strchr(line, '\n') + 1;
            char *to = strstr(from, "\n```");
            assert_non_null(to);
            to++;
            if (line[3] == 'h') {
                fixture_input(&f, from, to);
            } else {
                snprintf(f.log, sizeof f.log, "%.*s", (int)(to - from), from);
                judge(&f, file, t);
            }
            line = to;
        }
    }
}

TEST(llhttp)
{
    struct tally t = {0};
    if (!find_root())
        skip();
    static const char *const folders[] = {"request", "response"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        char folder[1024];
        snprintf(folder, sizeof folder, "%s/llhttp/test/%s", root, folders[i]);
        DIR *dir = opendir(folder);
        assert_non_null(dir);
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
            char path[2048];
            char file[512];
            if (strstr(entry->d_name, ".md") == NULL)
                continue;
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            snprintf(file, sizeof file, "%s/%s", folders[i], entry->d_name);
            run_markdown(path, file, &t);
        }
        closedir(dir);
    }
    printf("llhttp: %u cases: %u same, %u stricter by rule, %u refused where llhttp needs a lenient flag, %u "
           "named, %u differ; "
           "Host added in %u\n",
           t.cases, t.same, t.stricter, t.lenient, t.named, t.failed, t.host_added);
    assert_true(t.cases > 200);
    assert_int_equal(t.failed, 0);
}

// ---- http11probe

// Cases whose expectation is refusal or a complaint, yet which are for the origin and not for a proxy to
// judge.
static const struct {
    const char *id;
    const char *reason;
} probe_named[] = {
    {"SMUG-CHUNK-LF-TRAILER", "the payload as listed ends before its trailer section does: more is awaited"},
};

static const char *probe_reason(const char *id)
{
    for (size_t i = 0; i < ARRAY_LEN(probe_named); i++)
        if (strcmp(probe_named[i].id, id) == 0)
            return probe_named[i].reason;
    return NULL;
}

// Payloads in the file are text: characters up to U+00FF are bytes.
static size_t latin1(const char *utf8, size_t len, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n < CASE_BYTES_MAX / 2; i++) {
        unsigned char c = (unsigned char)utf8[i];
        if ((c == 0xc2 || c == 0xc3) && i + 1 < len)
            out[n++] = (char)((c << 6 & 0xc0) | (utf8[++i] & 0x3f));
        else
            out[n++] = (char)c;
    }
    return n;
}

static bool means(const char *expected, const char *word)
{
    return strstr(expected, word) != NULL;
}

// Refusal allowed, acceptance allowed, incompleteness allowed, by the words of the expectation.
static bool probe_agrees(const char *expected, const struct outcome *o)
{
    if (o->why != HTTP1_REJECT_NONE)
        return means(expected, "400") || means(expected, "close") || means(expected, "417") ||
               means(expected, "431") || means(expected, "501") || means(expected, "505") ||
               means(expected, "eject") || means(expected, "Not 101") || means(expected, "non-101");
    if (!o->complete && !o->upgraded)
        return means(expected, "close") || means(expected, "timeout");
    if (strcmp(expected, "400") == 0 || strcmp(expected, "400 or close") == 0 ||
        strcmp(expected, "400, or connection close") == 0 || strcmp(expected, "400/501 or close") == 0 ||
        strcmp(expected, "400, close, or timeout") == 0 || strcmp(expected, "400 or connection close") == 0)
        return false;
    return true;
}

TEST(http11probe)
{
    char path[1024];
    json_error_t error;
    static char bytes[CASE_BYTES_MAX];
    unsigned cases = 0, refused = 0, accepted = 0, incomplete = 0, multi = 0, described = 0, named_count = 0,
             failed = 0;
    if (!find_root())
        skip();
    snprintf(path, sizeof path, "%s/http11probe.json", root);
    json_t *list = json_load_file(path, JSON_ALLOW_NUL, &error);
    assert_non_null(list);
    size_t index;
    json_t *item;
    json_array_foreach(list, index, item)
    {
        const char *id = json_string_value(json_object_get(item, "id"));
        const char *expected = json_string_value(json_object_get(item, "expected"));
        json_t *payloads = json_object_get(item, "payloads");
        if (json_is_true(json_object_get(item, "multi_step")) || json_array_size(payloads) > 1) {
            multi++; // for the end-to-end tests
            continue;
        }
        json_t *payload = json_array_get(payloads, 0);
        if (payload == NULL || strstr(json_string_value(payload), "...") != NULL ||
            strchr(json_string_value(payload), '{')) {
            described++; // only described; the limits have unit tests of their own
            continue;
        }
        struct outcome o;
        run(&o, bytes, latin1(json_string_value(payload), json_string_length(payload), bytes), false, false);
        cases++;
        refused += o.why != HTTP1_REJECT_NONE;
        accepted += o.why == HTTP1_REJECT_NONE && (o.complete || o.upgraded);
        incomplete += o.why == HTTP1_REJECT_NONE && !o.complete && !o.upgraded;
        if (probe_agrees(expected, &o))
            continue;
        if (probe_reason(id) != NULL) {
            named_count++;
            printf("  named: %s: %s\n", id, probe_reason(id));
            continue;
        }
        failed++;
        printf("  DIFFERS: %s: expected \"%s\", ours %s%s\n", id, expected, http1_reject_word(o.why),
               o.complete ? " complete" : "");
    }
    json_decref(list);
    printf("http11probe: %u cases run: %u refused, %u accepted, %u wait for more; %u named, %u differ; not "
           "run here: %u of several "
           "steps, %u only described\n",
           cases, refused, accepted, incomplete, named_count, failed, multi, described);
    assert_true(cases > 150);
    assert_int_equal(failed, 0);
}
