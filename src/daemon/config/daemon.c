// SPDX-License-Identifier: Apache-2.0
// Sections of the daemon itself: where it listens, whom it trusts, what it holds and what it tells.
#include "base/check.h"
#include "daemon/config/config_private.h"
#include "net/http/http1.h"

#define CERTIFICATE_WORDS(type, member)                                                                      \
    {.word = "certificate",                                                                                  \
     .kind = CONFIG_KIND_FILE,                                                                               \
     .live = true,                                                                                           \
     CONFIG_AT(type, member certificate),                                                                    \
     .required = true,                                                                                       \
     .help = "file in PEM: the chain, the server's own certificate first"},                                  \
        {.word = "key",                                                                                      \
         .kind = CONFIG_KIND_FILE,                                                                           \
         .live = true,                                                                                       \
         CONFIG_AT(type, member key),                                                                        \
         .required = true,                                                                                   \
         .help = "file in PEM: its key, without a passphrase"},                                              \
    {                                                                                                        \
        .word = "ocsp", .kind = CONFIG_KIND_FILE, .live = true, CONFIG_AT(type, member ocsp),                \
        .help = "file in DER: an answer of OCSP to send along (a staple)"                                    \
    }

static const struct config_word certificate_words[] = {CERTIFICATE_WORDS(struct config_certificate, )};
static const struct config_section certificate_section = {
    .title = "tls.certificates[]",
    .help = "One more certificate; it answers for the names it holds, wildcards too.",
    CONFIG_WORDS(certificate_words),
};

const struct config_choice config_tls_version_choices[] = {
    {"1.2", CONFIG_TLS_1_2}, {"1.3", CONFIG_TLS_1_3}, {NULL, 0}};
static const struct config_choice client_choices[] = {{"optional", 0}, {"required", 1}, {NULL, 0}};

// Whether we may fill a field of that name for services: it has no meaning of its own.
static bool is_free_field(const char *name, enum http_field_id also)
{
    enum http_field_id id = http_field_id_of(slice_of(name));
    return (id == HTTP_FIELD_OTHER || id == also) && !http_field_reserved(slice_of(name));
}

static void client_header_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_client_header *header = target;
    if (!is_free_field(header->header, HTTP_FIELD_OTHER))
        config_error_at(reader, config_place(node, "header"),
                        "'%s' has a meaning of its own; choose another, such as X-Client-Subject",
                        header->header);
}

static const struct config_choice certificate_choices[] = {{"subject", CONFIG_CERTIFICATE_SUBJECT},
                                                           {"names", CONFIG_CERTIFICATE_NAMES},
                                                           {"fingerprint", CONFIG_CERTIFICATE_FINGERPRINT},
                                                           {NULL, 0}};
static const struct config_word client_header_words[] = {
    {.word = "header",
     .kind = CONFIG_KIND_TOKEN,
     .live = true,
     CONFIG_AT(struct config_client_header, header),
     .required = true,
     .help = "taken out of what clients send, whatever listener they use"},
    {.word = "value",
     .kind = CONFIG_KIND_CHOICE,
     .live = true,
     CONFIG_AT(struct config_client_header, value),
     .choices = certificate_choices,
     .fallback = "subject",
     .help =
         "subject: as RFC 4514 writes it; names: the alternative names of kind DNS, URI and email; fingerprint: "
         "SHA-256 in hexadecimal"},
};
static const struct config_section client_header_section = {
    .title = "tls.client_headers[]",
    .help = "A header that tells services whose certificate the client has.",
    CONFIG_WORDS(client_header_words),
    .shorthand = "header",
    .finish = client_header_finish,
};

static void tls_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_tls *tls = target;
    if (config_given(node, "clients") && tls->client_ca[0] == '\0')
        config_error_at(reader, config_place(node, "clients"),
                        "'clients' needs 'client_ca': the issuers whose certificates are believed");
    if (tls->client_header_count > 0 && tls->client_ca[0] == '\0')
        config_error_at(reader, config_place(node, "client_headers"),
                        "'client_headers' needs 'client_ca': without it no client shows a certificate");
}

static const struct config_word tls_words[] = {
    CERTIFICATE_WORDS(struct config_tls, first.),
    {.word = "certificates",
     .kind = CONFIG_KIND_LIST,
     .live = true,
     CONFIG_ITEMS(struct config_tls, more, more_count),
     .max = CONFIG_CERTIFICATES_MAX,
     .section = &certificate_section,
     .help = "further ones, chosen by the name that the client asks for"},
    {.word = "min_version",
     .kind = CONFIG_KIND_CHOICE,
     .live = true,
     CONFIG_AT(struct config_tls, version_min),
     .choices = config_tls_version_choices,
     .fallback = "1.2",
     .help = "older clients are refused"},
    {.word = "ciphers",
     .kind = CONFIG_KIND_TEXT,
     .live = true,
     CONFIG_AT(struct config_tls, ciphers),
     .help = "of TLS 1.2, as `openssl ciphers` takes them; only where somebody must"},
    {.word = "client_ca",
     .kind = CONFIG_KIND_FILE,
     .live = true,
     CONFIG_AT(struct config_tls, client_ca),
     .help =
         "file in PEM: whoever has a certificate of these issuers is believed; clients are asked for one"},
    {.word = "clients",
     .kind = CONFIG_KIND_CHOICE,
     .live = true,
     CONFIG_AT(struct config_tls, client_required),
     .choices = client_choices,
     .fallback = "required",
     .help = "with `client_ca`: whether those without a certificate are served"},
    {.word = "client_headers",
     .kind = CONFIG_KIND_LIST,
     .live = true,
     CONFIG_ITEMS(struct config_tls, client_headers, client_header_count),
     .max = CONFIG_CLIENT_HEADERS_MAX,
     .section = &client_header_section,
     .fallback = "none",
     .help = "headers that tell services of the client's certificate"},
};
static const struct config_section tls_section = {
    .title = "tls",
    .help = "HTTPS. Certificates are read again at a reload, and when their files change.",
    CONFIG_WORDS(tls_words),
    .finish = tls_finish,
};

static void listener_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_listener *listener = target;
    listener->secure = config_given(node, "tls");
    if (listener->secure && listener->https)
        config_error_at(reader, config_place(node, "redirect"),
                        "what comes to a listener with 'tls' is https already");
    if (listener->header_peer_count > 0 && listener->address.addr.any.sa_family == AF_UNIX)
        config_error_at(reader, config_place(node, "proxy_protocol"),
                        "peers of a unix socket have no address to be known by");
}

static const struct config_word network_item = {
    .word = "networks", .kind = CONFIG_KIND_NETWORK, .size = sizeof(struct config_network)};
static const struct config_choice redirect_choices[] = {{"none", false}, {"https", true}, {NULL, 0}};

static const struct config_word address_words[] = {
    {.word = "address",
     .kind = CONFIG_KIND_LISTEN,
     CONFIG_AT(struct config_listener, address),
     .required = true,
     .help = "0.0.0.0:8080, [::]:8080 or unix:/run/sluice.sock"},
    {.word = "tls",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_listener, tls),
     .section = &tls_section,
     .optional = true,
     .help = "HTTPS, and nothing else, on this address"},
    {.word = "http2",
     .kind = CONFIG_KIND_CHOICE,
     .live = true,
     CONFIG_AT(struct config_listener, http2),
     .choices = config_off_or_on,
     .fallback = "on",
     .help =
         "HTTP/2 beside HTTP/1.1: with TLS for clients that ask for it (ALPN), without TLS for those that "
         "begin with it"},
    {.word = "redirect",
     .kind = CONFIG_KIND_CHOICE,
     .live = true,
     CONFIG_AT(struct config_listener, https),
     .choices = redirect_choices,
     .fallback = "none",
     .help = "https: every request is answered 308 with the same host and path as https://"},
    {.word = "proxy_protocol",
     .kind = CONFIG_KIND_LIST,
     .live = true,
     CONFIG_ITEMS(struct config_listener, header_peers, header_peer_count),
     .max = CONFIG_NETWORKS_MAX,
     .item = &network_item,
     .fallback = "none",
     .help =
         "peers whose connections must begin with a PROXY header (version 1 or 2), which says who the client is; "
         "nobody else's is believed"},
};
const struct config_section config_listen_section = {
    .title = "listener",
    .help =
        "Where clients connect. `listen: [0.0.0.0:8080]` is short for `listen: [{address: 0.0.0.0:8080}]`.",
    CONFIG_WORDS(address_words),
    .shorthand = "address",
    .finish = listener_finish,
};

static void admin_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_address *admin = target;
    bool open = admin->literal && !config_is_loopback(&admin->addr);
    if (open)
        config_error_at(
            reader, config_place(node, "address"),
            "'%s' can be reached from other machines, and nothing would ask who is there: tokens come in "
            "a later version; use a loopback address such as 127.0.0.1:9440, or unix:/path",
            admin->text);
}

static const struct config_word admin_words[] = {
    {.word = "address",
     .kind = CONFIG_KIND_LISTEN,
     .offset = 0,
     .size = sizeof(struct config_address),
     .fallback = "127.0.0.1:9440",
     .help = "a loopback address or unix:/path; others are refused until tokens can guard them"},
    {.word = "tokens", .kind = CONFIG_KIND_LATER, .help = "tokens are"},
    {.word = "tls", .kind = CONFIG_KIND_LATER, .help = "TLS for the admin address is"},
};
const struct config_section config_admin_section = {
    .title = "admin",
    .help = "Where commands, API, metrics and the page answer.",
    CONFIG_WORDS(admin_words),
    .shorthand = "address",
    .finish = admin_finish,
};

static const struct config_word trust_words[] = {
    {.word = "networks",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_trust, networks, network_count),
     .max = CONFIG_NETWORKS_MAX,
     .item = &network_item,
     .fallback = "none",
     .help = "peers that may choose a version by the header X-Sluice-Version"},
    {.word = "forwarded_hops",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_trust, forwarded_hops),
     .max = 16,
     .fallback = "0",
     .help = "proxies of your own before this one, whose entries in X-Forwarded-For are believed; without "
             "`proxies`, whoever the peer is"},
    {.word = "proxies",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_trust, proxies, proxy_count),
     .max = CONFIG_NETWORKS_MAX,
     .item = &network_item,
     .fallback = "none",
     .help =
         "where proxies of your own are: X-Forwarded-For of other peers is not believed, and of theirs the "
         "client is the first address from the right that is none of them; with `forwarded_hops`, at most so "
         "many entries are believed"},
};
const struct config_section config_trust_section = {
    .title = "trust", .help = "Whom to believe. By default nobody.", CONFIG_WORDS(trust_words)};

static void request_id_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_request_id *id = target;
    if (node != NULL && !is_free_field(id->header, HTTP_FIELD_X_REQUEST_ID))
        config_error_at(reader, config_place(node, "header"),
                        "'%s' has a meaning of its own; choose another, such as X-Request-Id", id->header);
}

static const struct config_choice id_choices[] = {
    {"none", CONFIG_ID_NOBODYS}, {"proxies", CONFIG_ID_PROXIES}, {"all", CONFIG_ID_ANYBODYS}, {NULL, 0}};
static const struct config_word request_id_words[] = {
    {.word = "header",
     .kind = CONFIG_KIND_TOKEN,
     CONFIG_AT(struct config_request_id, header),
     .fallback = "X-Request-Id",
     .help = "the header that names each request to its service, and in the access log"},
    {.word = "keep",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_request_id, keep),
     .choices = id_choices,
     .fallback = "none",
     .help =
         "whose ids are kept: nobody's, those of proxies that `trust` believes, or all; others get a new one"},
};
const struct config_section config_request_id_section = {
    .title = "request_id",
    .help =
        "An id for each request: 128 bits in hexadecimal, or, where it is kept, what came (at most 128 letters, "
        "digits and -._~+/=:).",
    CONFIG_WORDS(request_id_words),
    .shorthand = "header",
    .finish = request_id_finish,
};

static const struct config_choice raw_query_choices[] = {{"refuse", false}, {"pass", true}, {NULL, 0}};

static const struct config_word limit_words[] = {
    {.word = "request_body",
     .kind = CONFIG_KIND_SIZE,
     CONFIG_AT(struct config_limits, request_body_bytes),
     .min = 1,
     .max = 1ULL << 50,
     .zero = "unlimited",
     .fallback = "unlimited",
     .help = "larger request bodies are answered 413; bodies are streamed, so this is about your service"},
    {.word = "head",
     .kind = CONFIG_KIND_SIZE,
     CONFIG_AT(struct config_limits, head_bytes),
     .min = 1024,
     .max = HTTP1_HEAD_BYTES_MAX,
     .fallback = "32KiB",
     .restart = CONFIG_RESTART_CHANGED,
     .help =
         "of a request's start line and fields, cookies included; larger ones are answered 431 (414 where the "
         "start line alone is over 16KiB), and 502 where an endpoint's answer has a larger one"},
    {.word = "head_fields",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_limits, head_fields),
     .min = 16,
     .max = HTTP_FIELDS_MAX,
     .fallback = "200",
     .restart = CONFIG_RESTART_CHANGED,
     .help = "header fields in it; more are answered in the same way"},
    {.word = "raw_query",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_limits, query_raw),
     .choices = raw_query_choices,
     .fallback = "refuse",
     .restart = CONFIG_RESTART_CHANGED,
     .help =
         "what becomes of a query with `\"`, `<` or `>` not escaped, such as `?filter={\"id\":1}`: RFC 3986 has "
         "none there and browsers escape them, some programs do not. Refused with 400, or passed as sent; blanks, "
         "`#`, control characters and bytes beyond ASCII are refused always"},
    {.word = "connections",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_limits, connections),
     .min = 1,
     .max = 4000000,
     .fallback = "16384",
     .restart = CONFIG_RESTART_CHANGED,
     .help =
         "client connections at once, all workers together; beyond it the one that waits the longest without a "
         "request gives way, and if there is none new ones get 503. Lowered at the start, and said so, where the "
         "limit of descriptors is too low for it"},
    {.word = "address_connections",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_limits, address_connections),
     .min = 1,
     .max = 4000000,
     .zero = "auto",
     .fallback = "auto",
     .help =
         "client connections at once from one IPv4 address or IPv6 /64; more get 503. `auto`: a quarter of "
         "`connections`, or no limit where `trust` says that they come from proxies of your own"},
    {.word = "request_rate",
     .kind = CONFIG_KIND_SIZE,
     CONFIG_AT(struct config_limits, request_rate_bytes),
     .min = 1,
     .max = 1ULL << 30,
     .fallback = "500B",
     .help =
         "bytes a second that a client must reach, over `timeouts.idle`, while it sends a body; slower ones get "
         "408"},
    {.word = "endpoint_connections",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_limits, endpoint_connections),
     .min = 1,
     .max = 65535,
     .fallback = "1024",
     .help = "connections to one endpoint, per worker"},
};
const struct config_section config_limits_section = {
    .title = "limits", .help = "What is held at most.", CONFIG_WORDS(limit_words)};

static const struct config_choice level_choices[] = {{"error", CONFIG_LOG_ERROR},
                                                     {"warn", CONFIG_LOG_WARN},
                                                     {"info", CONFIG_LOG_INFO},
                                                     {"debug", CONFIG_LOG_DEBUG},
                                                     {NULL, 0}};
static const struct config_choice format_choices[] = {
    {"text", CONFIG_LOG_TEXT}, {"json", CONFIG_LOG_JSON}, {NULL, 0}};
static const struct config_choice requests_choices[] = {
    {"none", CONFIG_LOG_REQUESTS_NONE}, {"errors", CONFIG_LOG_REQUESTS_ERRORS}, {NULL, 0}};
static const struct config_choice paths_choices[] = {
    {"words", CONFIG_LOG_PATHS_WORDS}, {"none", CONFIG_LOG_PATHS_NONE}, {NULL, 0}};
static const struct config_word log_words[] = {
    {.word = "level",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_log, level),
     .choices = level_choices,
     .fallback = "info",
     .help = "the least important thing that is told"},
    {.word = "format",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_log, format),
     .choices = format_choices,
     .fallback = "text",
     .help = "lines for people or JSON for machines"},
    {.word = "requests",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_log, requests),
     .choices = requests_choices,
     .fallback = "errors",
     .help =
         "which requests get a line here: `errors` are those that an origin answered with 5xx, whose answer failed, or "
         "that were answered here"},
    {.word = "paths",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_log, paths),
     .choices = paths_choices,
     .fallback = "words",
     .help =
         "where requests of a rollout failed, as its verdict and its views tell it, to the log and the journal too: "
         "`words` tells those parts that are words, never the query; `none` tells nothing of them"},
    {.word = "access",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_log, access),
     .restart = CONFIG_RESTART_CHANGED,
     .help =
         "a file that gets a line for every request, `-` for standard output; in the combined format, followed by host, "
         "service, version, milliseconds and the `request_id` where there is one, or as JSON where `format` is. Reading "
         "the file again opens it anew"},
};
const struct config_section config_log_section = {
    .title = "log", .help = "What is written to standard error.", CONFIG_WORDS(log_words)};

static bool port_is_chosen_later(const struct config_address *address)
{
    return address->addr.any.sa_family != AF_UNIX && address->addr.bytes[2] == 0 &&
           address->addr.bytes[3] == 0;
}

static void names_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_names *names = target;
    const struct config_node *list = node != NULL ? config_node_get(node, "servers") : NULL;
    const struct config_entry *entry = list != NULL && list->kind == CONFIG_NODE_LIST ? list->first : NULL;
    for (uint32_t i = 0; i < names->server_count && entry != NULL; i++, entry = entry->next) {
        const struct config_address *server = &names->servers[i];
        bool usable = server->addr.any.sa_family != AF_UNIX && !port_is_chosen_later(server);
        if (server->literal && !usable)
            config_error_at(reader, entry->value,
                            "'%s' is not the address of a name server; such as 10.0.0.2:53 or [fd00::53]:53",
                            server->text);
    }
}

static const struct config_word server_item = {
    .word = "servers", .kind = CONFIG_KIND_LISTEN, .size = sizeof(struct config_address)};
static const struct config_word names_words[] = {
    {.word = "servers",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_names, servers, server_count),
     .max = CONFIG_NAME_SERVERS_MAX,
     .item = &server_item,
     .fallback = "those of /etc/resolv.conf",
     .help = "name servers to ask, such as 10.0.0.2:53"},
};
const struct config_section config_names_section = {
    .title = "names",
    .help =
        "How names of endpoints are looked up. They are followed all the time: all addresses of a name "
        "count, what changes is in force within the record's time to live (at least 1s, at most 60s), "
        "and the last good answer stays while name servers are silent, fail, or say that the name is gone.",
    CONFIG_WORDS(names_words),
    .finish = names_finish,
};

// ---- across sections ----

void config_listen_check(struct config_reader *reader, const struct config_node *root)
{
    const struct config *config = reader->config;
    const struct config_node *list = config_node_get(root, "listen");
    const struct config_entry *entry = list != NULL ? list->first : NULL;
    for (uint32_t i = 0; i < config->listen_count && entry != NULL; i++, entry = entry->next) {
        const struct config_address *address = &config->listen[i].address;
        bool twice = config_address_same(address, &config->admin) ||
                     config_address_same(address, &config->flags.listen);
        for (uint32_t j = 0; j < i; j++)
            twice = twice || config_address_same(address, &config->listen[j].address);
        if (twice && !port_is_chosen_later(address))
            config_error_at(reader, config_place(entry->value, "address"),
                            "'%s' is listened to twice; each address belongs to one listener", address->text);
    }
}
