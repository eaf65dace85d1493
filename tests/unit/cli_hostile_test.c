// SPDX-License-Identifier: Apache-2.0
// cli: whatever the daemon says, or whoever answers in its place, no command lets it move a terminal's
// cursor, forge a line or turn the direction of writing; and JSON that is printed says the same as what came.
#include <arpa/inet.h>
#include <jansson.h>
#include <pthread.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/utf8.h"
#include "daemon/cli/cli_private.h"
#include "daemon/cli/shown.h"
#include "test.h"

// An escape sequence, CR, line breaks, a bell, C1's CSI, DEL, bidirectional overrides and isolates, U+2028.
#define H "x\\u001b[2J\\r\\nFORGED\\n\\u0007\\u009b2J\\u007f\\u202eab\\u2066\\u2028c\\u061cd"

// One document that answers every question.
#define ROLLOUT(state)                                                                                       \
    "\"name\":\"" H "\",\"service\":\"" H "\",\"flag\":\"" H "\",\"from\":\"" H "\",\"to\":\"" H             \
    "\",\"state\":\"" state "\",\"run\":1,\"stage\":1,\"started_ms\":1,\"stages\":[{\"kind\":\"" H           \
    "\"}],\"arms\":{\"stable\":{\"version\":\"" H "\"},\"canary\":{\"version\":\"" H                         \
    "\"}},\"evidence\":{\"why\":\"" H "\",\"checks\":[{\"name\":\"" H                                        \
    "\",\"good\":false}]},\"verdict\":{\"outcome\":\"" H "\",\"text\":\"" H "\\n  indented\",\"time_ms\":5}"
#define REST                                                                                                 \
    ",\"journal\":{\"failing\":true,\"problem\":\"" H "\"},\"older\":1,\"decisions\":[{\"from\":\"" H        \
    "\",\"to\":\"" H "\",\"verdict\":{\"text\":\"" H "\"}}],\"changes\":[{\"op\":\"" H "\",\"key\":\"" H     \
    "\",\"variant\":\"" H "\",\"who\":\"" H "\",\"from\":\"" H                                               \
    "\"}],\"refused\":true,\"problems\":[{\"text\":\"" H "\",\"error\":true}],\"sources\":[{\"name\":\"" H   \
    "\",\"good\":false,\"problem\":\"" H "\"}],\"flags\":[{\"key\":\"" H "\",\"type\":\"" H                  \
    "\",\"default_variant\":\"" H "\",\"source\":\"" H "\",\"fault\":\"" H "\",\"rollout\":\"" H             \
    "\",\"stale\":\"" H "\",\"overlay\":{\"switched\":\"" H "\",\"variant\":\"" H "\"}}],\"key\":\"" H       \
    "\",\"type\":\"" H "\",\"default_variant\":\"" H "\",\"source\":\"" H                                    \
    "\",\"overlay\":{\"switched\":\"" H "\",\"variant\":\"" H "\"},\"variants\":[{\"name\":\"" H             \
    "\",\"value\":\"" H "\"}],\"metadata\":{\"" H "\":\"" H                                                  \
    "\"},\"usage\":{},\"definition\":{\"variants\":{\"" H "\":\"" H "\"},\"targeting\":{\"if\":[\"" H        \
    "\",\"" H "\"]}},\"change\":9,\"next\":null,\"value\":\"" H "\",\"has_value\":true,\"variant\":\"" H     \
    "\",\"reason\":\"" H "\",\"error\":\"" H "\",\"error_text\":\"" H "\",\"note\":\"" H                     \
    "\",\"path\":\"targeting.if[1]" H "\"}"
#define EVERYTHING(state) "{" ROLLOUT(state) ",\"rollouts\":[{" ROLLOUT(state) "}]" REST
static const char REFUSAL[] = "{\"error\":{\"code\":\"" H "\",\"message\":\"" H "\"}}";

// ---- who answers ----

static int listener;
static char admin[32];
static const char *document;
static unsigned http_status;

static void serve_one(int handle)
{
    static char request[1 << 16];
    char head[200];
    size_t len = 0;
    size_t wanted = SIZE_MAX;
    while (len < wanted && len < sizeof request - 1) {
        ssize_t n = recv(handle, request + len, sizeof request - 1 - len, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        request[len] = '\0';
        const char *end = strstr(request, "\r\n\r\n");
        const char *body_len = strcasestr(request, "content-length:");
        if (end != NULL)
            wanted = (size_t)(end + 4 - request) +
                     (body_len != NULL ? strtoul(body_len + strlen("content-length:"), NULL, 10) : 0);
    }
    int n = snprintf(head, sizeof head, "HTTP/1.1 %u X\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                     http_status, strlen(document));
    (void)!send(handle, head, (size_t)n, MSG_NOSIGNAL);
    (void)!send(handle, document, strlen(document), MSG_NOSIGNAL);
    close(handle);
}

static void *serve(void *context)
{
    (void)context;
    for (;;) {
        int handle = accept(listener, NULL, NULL);
        if (handle < 0)
            return NULL;
        serve_one(handle);
    }
}

// ---- what comes out ----

static char flag_file[64];
static char *out_text, *err_text;

static void run(const char *const *words)
{
    char *argv[16] = {0};
    size_t out_len, err_len;
    int argc = 0;
    for (; words[argc] != NULL; argc++)
        argv[argc] = strdup(strcmp(words[argc], "@") == 0 ? flag_file : words[argc]);
    argv[argc] = strdup("--admin");
    argv[argc + 1] = strdup(admin);
    FILE *out = open_memstream(&out_text, &out_len);
    FILE *err = open_memstream(&err_text, &err_len);
    int code = cli_main(argc + 2, argv, out, err);
    fclose(out);
    fclose(err);
    // The line was understood and somebody answered.
    if (code == CLI_EXIT_USAGE || code == CLI_EXIT_UNREACHABLE)
        fail_msg("%s %s: exit %d, %s", words[1], words[2], code, err_text);
    for (int i = 0; i < argc + 2; i++)
        free(argv[i]);
}

static void assert_harmless(const char *text, const char *const *words)
{
    for (struct slice rest = slice_of(text); rest.len > 0;) {
        size_t n = utf8_length(rest);
        bool harmless = n > 0 && (rest.data[0] == '\n' || !utf8_acts((struct slice){rest.data, n}));
        if (!harmless || slice_starts_with(rest, SLICE("\nFORGED")))
            fail_msg("%s %s %s: byte 0x%02x of\n%s", words[1], words[2], words[3] != NULL ? words[3] : "",
                     (unsigned char)rest.data[0], text);
        rest = (struct slice){rest.data + n, rest.len - n};
    }
}

#define SAY(...) ((const char *const[]){"sluice", __VA_ARGS__, NULL, NULL})
static const char *const *const COMMANDS[] = {
    SAY("status"),
    SAY("status", "--json"),
    SAY("rollout", "watch", "r", "--once"),
    SAY("rollout", "watch", "r", "--plain"),
    SAY("rollout", "explain", "r"),
    SAY("rollout", "explain", "r", "--json"),
    SAY("rollout", "history", "r"),
    SAY("rollout", "history", "r", "--json"),
    SAY("rollout", "start", "r"),
    SAY("rollout", "undo", "r", "--yes"),
    SAY("rollout", "pause", "r", "--json"),
    SAY("flag", "list"),
    SAY("flag", "list", "--json"),
    SAY("flag", "show", "f"),
    SAY("flag", "show", "f", "--json"),
    SAY("flag", "history"),
    SAY("flag", "history", "f"),
    SAY("flag", "history", "f", "--json"),
    SAY("flag", "eval", "f", "-k", "u"),
    SAY("flag", "eval", "f", "-k", "u", "--json"),
    SAY("flag", "on", "f"),
    SAY("flag", "off", "f", "--variant", "v"),
    SAY("flag", "off", "f", "--json"),
    SAY("flag", "set", "f", "--default", "none"),
    SAY("flag", "unset", "f", "--yes"),
    SAY("flag", "export"),
    SAY("flag", "import", "@", "--apply", "--yes"),
    SAY("flag", "lint", "@", "--stale"),
};

TEST(every_command)
{
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++) {
        bool watches = strcmp(COMMANDS[i][1], "rollout") == 0 && strcmp(COMMANDS[i][2], "watch") == 0;
        http_status = 200;
        document = watches ? EVERYTHING("RolledBack") : EVERYTHING(H);
        run(COMMANDS[i]);
        if (strlen(out_text) + strlen(err_text) == 0)
            fail_msg("%s %s says nothing", COMMANDS[i][1], COMMANDS[i][2]);
        assert_harmless(out_text, COMMANDS[i]);
        assert_harmless(err_text, COMMANDS[i]);
        free(out_text);
        free(err_text);
    }
}

TEST(every_refusal)
{
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++) {
        http_status = 409;
        document = REFUSAL;
        run(COMMANDS[i]);
        assert_harmless(out_text, COMMANDS[i]);
        assert_harmless(err_text, COMMANDS[i]);
        assert_non_null(strstr(err_text, "x?[2J??FORGED"));
        free(out_text);
        free(err_text);
    }
}

// A line may break in a sentence, where what follows cannot pass as a line of its own.
TEST(told)
{
    assert_string_equal(cli_told("a\n  b\nc\n d"), "a\n  b?c? d");
    assert_string_equal(cli_shown("a\n  b"), "a?  b");
    assert_string_equal(cli_shown("\xc3\xa9\xff\xc2\x9b\xe2\x82\xac\xe2\x80\xae"), "\xc3\xa9??\xe2\x82\xac?");
}

TEST(json_stays)
{
    static const char *const words[] = {"sluice", "flag", "export", NULL, NULL};
    http_status = 200;
    document = EVERYTHING(H);
    run(words);
    json_t *came = json_loads(document, 0, NULL);
    json_t *printed = json_loads(out_text, 0, NULL);
    assert_non_null(came);
    assert_true(json_equal(came, printed));
    json_decref(printed);
    free(out_text);
    free(err_text);
    run((const char *const[]){"sluice", "flag", "show", "f", "--json", NULL, NULL});
    printed = json_loads(out_text, 0, NULL);
    assert_true(json_equal(came, printed));
    char cut[12];
    cli_json_text(json_object_get(came, "name"), cut, sizeof cut);
    assert_string_equal(cut, "\"x\\u001B...");
    json_decref(came);
    json_decref(printed);
    free(out_text);
    free(err_text);
}

static pthread_t thread;

static int set_up(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof addr;
    (void)state;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, (struct sockaddr *)&addr, addr_len) == 0 && listen(listener, 16) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&addr, &addr_len) == 0);
    snprintf(admin, sizeof admin, "127.0.0.1:%u", ntohs(addr.sin_port));
    snprintf(flag_file, sizeof flag_file, "/tmp/cli_hostile_%d.json", (int)getpid());
    FILE *file = fopen(flag_file, "w");
    CHECK(file != NULL);
    fputs("{\"flags\": {\"" H "\": {\"state\": \"ENABLED\", \"variants\": {\"" H
          "\": true}, \"defaultVariant\": \"" H "\"}}}",
          file);
    fclose(file);
    return pthread_create(&thread, NULL, serve, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
    unlink(flag_file);
    return 0;
}

ALL_TESTS(set_up, tear_down);
