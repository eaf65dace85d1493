// SPDX-License-Identifier: Apache-2.0
// One keep-alive connection by libcurl. No proxy settings of the environment apply: the admin address is
// local.
#include "daemon/cli/client.h"

#include <curl/curl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/text.h"
#include "daemon/cli/shown.h"
#include "ship/rollout/rollout.h"

struct cli_client {
    CURL *curl;
    struct curl_slist *headers;
    long timeout_ms;
    char admin[256];
    char *body;
    size_t body_len;
    bool body_too_long;
};

static size_t on_bytes(char *data, size_t size, size_t count, void *context)
{
    struct cli_client *client = context;
    size_t len = size * count;
    char *grown = client->body_len + len < CLI_ANSWER_BYTES_MAX
                      ? heap_resize(client->body, client->body_len + len + 1)
                      : NULL;
    if (grown == NULL) {
        client->body_too_long = true;
        return 0;
    }
    memcpy(grown + client->body_len, data, len);
    client->body = grown;
    client->body_len += len;
    client->body[client->body_len] = '\0';
    return len;
}

static const char *admin_of(const struct cli_call *call)
{
    const char *admin = cli_value(call, "admin");
    if (admin == NULL)
        admin = getenv("SLUICE_ADMIN");
    return admin != NULL && admin[0] != '\0' ? admin : CLI_ADMIN_DEFAULT;
}

struct cli_client *cli_client_open(const char *admin)
{
    struct cli_client *client = heap_alloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    client->timeout_ms = 10000;
    snprintf(client->admin, sizeof client->admin, "%s", admin);
    client->curl = curl_easy_init();
    if (client->curl == NULL) {
        cli_client_close(client);
        return NULL;
    }
    return client;
}

void cli_client_limit(struct cli_client *client, long ms)
{
    client->timeout_ms = ms;
}

void cli_client_close(struct cli_client *client)
{
    if (client == NULL)
        return;
    if (client->curl != NULL)
        curl_easy_cleanup(client->curl);
    curl_slist_free_all(client->headers);
    heap_free(client->body);
    heap_free(client);
}

// "unix:/path" goes by the socket; "http://..." is taken as it is; "0.0.0.0:1" and the like as host and port.
static void set_address(struct cli_client *client, const char *path)
{
    char url[2048];
    bool by_socket = strncmp(client->admin, "unix:", 5) == 0;
    bool whole = strncmp(client->admin, "http://", 7) == 0;
    snprintf(url, sizeof url, "%s%s%s", whole ? "" : "http://", by_socket ? "localhost" : client->admin,
             path);
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    curl_easy_setopt(client->curl, CURLOPT_UNIX_SOCKET_PATH, by_socket ? client->admin + 5 : NULL);
}

struct request {
    const char *method; // NULL: GET
    const char *path;
    struct slice body; // data NULL: none
    const char *who;   // NULL: none
};

// Header lines of a request of ours; NULL when memory ran out.
static struct curl_slist *headers_of(const struct request *request)
{
    char line[200] = "X-Sluice-Who: ";
    struct text text = {.data = line, .len = strlen(line), .cap = sizeof line};
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
    if (list == NULL || request->who == NULL)
        return list;
    // A name must not begin another line.
    for (const char *at = request->who; *at != '\0'; at++)
        text_add_char(&text, (unsigned char)*at < 0x20 || *at == 0x7f ? '?' : *at);
    struct curl_slist *longer = curl_slist_append(list, line);
    if (longer == NULL)
        curl_slist_free_all(list);
    return longer;
}

static enum status ask(struct cli_client *client, const struct request *request, unsigned *http,
                       json_t **answer)
{
    CURL *curl = client->curl;
    curl_slist_free_all(client->headers);
    client->headers = headers_of(request);
    if (client->headers == NULL)
        return STATUS_NO_MEMORY;
    curl_easy_reset(curl);
    set_address(client, request->path);
    // A key may hold "..": it must arrive as it was encoded.
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, 3000L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, client->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
    if (request->body.data != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.data);
    }
    if (request->method != NULL) {
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, client->headers);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    }
    client->body_len = 0;
    client->body_too_long = false;
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return STATUS_TIMEOUT;
    if (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
        code == CURLE_PARTIAL_FILE)
        return STATUS_RESET;
    if (code != CURLE_OK && code != CURLE_WRITE_ERROR)
        return STATUS_UNREACHABLE;
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    json_error_t error;
    json_t *parsed = client->body_len > 0 && !client->body_too_long
                         ? json_loadb(client->body, client->body_len, 0, &error)
                         : NULL;
    if (parsed == NULL)
        return STATUS_INVALID;
    *http = (unsigned)status;
    *answer = parsed;
    return STATUS_OK;
}

enum status cli_client_ask(struct cli_client *client, const char *method, const char *path, struct slice body,
                           const char *who, unsigned *http, json_t **answer)
{
    struct request request = {.method = method, .path = path, .body = body, .who = who};
    return ask(client, &request, http, answer);
}

enum status cli_client_get(struct cli_client *client, const char *path, unsigned *http, json_t **answer)
{
    return ask(client, &(struct request){.path = path}, http, answer);
}

struct slice cli_client_body(const struct cli_client *client)
{
    return (struct slice){client->body != NULL ? client->body : "", client->body_len};
}

int cli_say_unreachable(const struct cli_call *call, const struct cli_client *client, enum status status)
{
    if (status == STATUS_INVALID) {
        fprintf(call->err, "sluice: what answers at %s is not sluice\n", client->admin);
        return CLI_EXIT_UNREACHABLE;
    }
    if (status == STATUS_RESET) {
        fprintf(call->err, "sluice: the daemon at %s closed the connection before it had answered\n",
                client->admin);
        return CLI_EXIT_UNREACHABLE;
    }
    fprintf(call->err, "sluice: no daemon answers at %s (%s)\n", client->admin,
            status == STATUS_TIMEOUT ? "timed out" : "cannot connect");
    bool offline = cli_offers(call, "journal");
    if (offline && cli_given(call, "journal"))
        return CLI_EXIT_UNREACHABLE;
    fprintf(
        call->err,
        "Start one with \"sluice serve FILE\", or name its admin address with --admin or SLUICE_ADMIN.\n");
    if (offline)
        fprintf(call->err,
                "If it is down, give the command again with --journal PATH (`journal` in its file): "
                "it then counts from the next start.\n");
    return CLI_EXIT_UNREACHABLE;
}

void cli_who(const struct cli_call *call, char *who, size_t cap)
{
    const char *behind = getenv("SUDO_USER");
    struct passwd *entry = getpwuid(getuid());
    const char *name = entry != NULL ? entry->pw_name : NULL;
    if (name == NULL)
        snprintf(who, cap, "uid %u", (unsigned)getuid());
    else if (behind != NULL && behind[0] != '\0' && strcmp(behind, name) != 0)
        snprintf(who, cap, "%.40s (as %.16s)", behind, name);
    else
        snprintf(who, cap, "%s", name);
    if (cli_offers(call, "who") && cli_given(call, "who"))
        snprintf(who, cap, "%s", cli_value(call, "who"));
}

// Whole: a file may have twenty errors.
static void say_reason(const struct cli_call *call, bool journal, const char *text)
{
    fprintf(call->err, "sluice: %s", journal ? "journal: " : "");
    cli_print_told(call->err, text);
    fputc('\n', call->err);
}

static int settle(const struct cli_call *call, struct cli_client *client, enum status status, unsigned http,
                  json_t **answer)
{
    if (status == STATUS_OK && http == 200)
        return CLI_EXIT_OK;
    if (status != STATUS_OK)
        return cli_say_unreachable(call, client, status);
    const json_t *error = json_object_get(*answer, "error");
    const char *text = json_string_value(json_object_get(error, "message"));
    bool journal = strcmp(cli_word(error, "code"), "journal") == 0;
    if (http == 404 && text != NULL && strncmp(text, "nothing here", 12) == 0)
        fprintf(call->err, "sluice: the daemon at %s is older than this program and does not know this\n",
                client->admin);
    else if (text == NULL)
        fprintf(call->err, "sluice: the daemon answered %u without a reason\n", http);
    else
        say_reason(call, journal, text);
    json_decref(*answer);
    *answer = NULL;
    return CLI_EXIT_NO;
}

int cli_get(const struct cli_call *call, struct cli_client *client, const char *path, json_t **answer)
{
    unsigned http = 0;
    *answer = NULL;
    enum status status = cli_client_get(client, path, &http, answer);
    return settle(call, client, status, http, answer);
}

int cli_send(const struct cli_call *call, struct cli_client *client, const char *method, const char *path,
             struct slice body, json_t **answer)
{
    char who[ROLLOUT_WHO_BYTES];
    unsigned http = 0;
    cli_who(call, who, sizeof who);
    *answer = NULL;
    enum status status = cli_client_ask(client, method, path, body, who, &http, answer);
    return settle(call, client, status, http, answer);
}

// As set_address takes it: a socket, a URL, or host and port.
static bool is_address(const char *admin)
{
    if (strncmp(admin, "unix:", 5) == 0)
        return admin[5] != '\0';
    if (strncmp(admin, "http://", 7) == 0)
        return admin[7] != '\0' && strchr(admin, ' ') == NULL;
    const char *colon = strrchr(admin, ':');
    if (colon == NULL || colon == admin || strpbrk(admin, " /@?#\"") != NULL)
        return false;
    size_t digits = strspn(colon + 1, "0123456789");
    long port = digits > 0 && digits <= 5 && colon[1 + digits] == '\0' ? strtol(colon + 1, NULL, 10) : 0;
    return port > 0 && port <= 65535;
}

int cli_client_of(const struct cli_call *call, struct cli_client **client)
{
    if (!is_address(admin_of(call))) {
        fprintf(call->err,
                "sluice: \"%s\" is not an admin address; such as 127.0.0.1:9440, [::1]:9440 or unix:/path\n",
                cli_shown(admin_of(call)));
        return CLI_EXIT_USAGE;
    }
    *client = cli_client_open(admin_of(call));
    if (*client != NULL)
        return CLI_EXIT_OK;
    fprintf(call->err, "sluice: no memory is left\n");
    return CLI_EXIT_UNREACHABLE;
}

bool cli_ask_person(const struct cli_call *call, const char *question)
{
    if (isatty(STDIN_FILENO) != 1)
        return false;
    fprintf(call->err, "%s [y/N] ", question);
    fflush(call->err);
    char line[16];
    return fgets(line, sizeof line, stdin) != NULL && (line[0] == 'y' || line[0] == 'Y');
}
