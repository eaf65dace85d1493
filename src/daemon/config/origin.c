// SPDX-License-Identifier: Apache-2.0
// TLS towards the endpoints of versions: the words, and what a certificate's name is checked by.
#include "base/check.h"
#include "daemon/config/config_private.h"

static void origin_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_origin *origin = target;
    if (node == NULL || node->kind != CONFIG_NODE_MAP)
        return;
    origin->speech = CONFIG_SPEECH_TLS;
    if (config_given(node, "certificate") != config_given(node, "key"))
        config_error_at(reader, node,
                        "'certificate' and 'key' belong together: the one without the other is of no use");
    if (strchr(origin->server_name, '*') != NULL)
        config_error_at(reader, config_place(node, "server_name"), "'server_name' is one name, without '*'");
    if (!origin->verify && origin->ca[0] != '\0')
        config_error_at(
            reader, config_place(node, "ca"),
            "'ca' says whom to believe, and 'verify: false' that nobody looks: take one of them away");
}

static const struct config_choice speech_choices[] = {
    {"true", CONFIG_SPEECH_TLS}, {"false", CONFIG_SPEECH_PLAIN}, {NULL, 0}};
static const struct config_choice verify_choices[] = {{"true", true}, {"false", false}, {NULL, 0}};

static const struct config_word origin_words[] = {
    {.word = "ca",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_origin, ca),
     .help = "file in PEM: the issuers that are believed; without it those that this machine believes"},
    {.word = "server_name",
     .kind = CONFIG_KIND_HOST,
     CONFIG_AT(struct config_origin, server_name),
     .help =
         "the name that is asked for (SNI) and that the certificate must have; without it that of the endpoint: its "
         "name, or its address"},
    {.word = "certificate",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_origin, certificate),
     .help = "file in PEM: our own certificate and its chain, for origins that ask for one"},
    {.word = "key",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_origin, key),
     .help = "file in PEM: its key, without a passphrase"},
    {.word = "verify",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_origin, verify),
     .choices = verify_choices,
     .fallback = "true",
     .help =
         "`false`: whoever answers is believed, so that whoever is in between can read and change everything; said at "
         "each start"},
    {.word = "min_version",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_origin, version_min),
     .choices = config_tls_version_choices,
     .fallback = "1.2",
     .help = "older origins are refused"},
    {.word = "ciphers",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct config_origin, ciphers),
     .help = "of TLS 1.2, as `openssl ciphers` takes them; only where somebody must"},
};
const struct config_section config_origin_section = {
    .title = "tls to endpoints",
    .help =
        "HTTPS to the endpoints of a version. `tls: true` takes the defaults; `tls: false` at a version speaks in the "
        "clear where its service does not. Files are read again at a reload, and when they change.",
    CONFIG_WORDS(origin_words),
    .choices = speech_choices,
    .choice_offset = offsetof(struct config_origin, speech),
    .choice_size = sizeof(enum config_speech),
    .finish = origin_finish,
};

// ---- across words ----

static const char *nameless(const struct config_address *endpoint)
{
    if (endpoint->literal)
        return endpoint->addr.any.sa_family == AF_UNIX ? "a socket of this machine" : NULL;
    return slice_starts_with(slice_of(endpoint->text), SLICE("srv:")) ? "what an SRV record tells" : NULL;
}

void config_endpoints_names(struct config_reader *reader, const struct config_node *node,
                            const struct config_origin *origin, const struct config_endpoint *endpoints,
                            uint32_t count)
{
    const struct config_entry *entry = node != NULL ? node->first : NULL;
    bool needed = origin->speech == CONFIG_SPEECH_TLS && origin->verify && origin->server_name[0] == '\0';
    for (uint32_t i = 0; needed && i < count; i++, entry = entry->next)
        if (nameless(&endpoints[i].address) != NULL)
            config_error_at(
                reader, entry->value,
                "'%s' with 'tls' needs 'server_name': %s has no name that a certificate can be held against",
                endpoints[i].address.text, nameless(&endpoints[i].address));
}

static void unverified_add(struct text *text, const struct config_origin *origin, const char *service,
                           const char *version)
{
    if (origin->speech == CONFIG_SPEECH_TLS && !origin->verify)
        text_addf(text, "%s%s %s", text->len > 0 ? ", " : "", service, version);
}

// One note for all: it must find room whatever else is to be told.
static void unverified_note(struct config *config)
{
    char storage[CONFIG_NOTE_BYTES - 128];
    struct text names = text_over(storage, sizeof storage);
    for (uint32_t i = 0; i < config->service_count; i++) {
        const struct config_service *service = &config->services[i];
        for (uint32_t k = 0; k < service->version_count; k++)
            unverified_add(&names, &service->versions[k].origin, service->name, service->versions[k].name);
        if (service->control_endpoint_count > 0)
            unverified_add(&names, &service->control_origin, service->name, "(control)");
    }
    if (names.len == 0)
        return;
    struct text note = text_over(config->notes[config->note_count++], CONFIG_NOTE_BYTES);
    text_addf(&note, "NOT VERIFIED: whoever answers is believed to be %s%s, for 'tls' says 'verify: false'",
              storage, names.cut ? ", ..." : "");
}

void config_origins_check(struct config_reader *reader, const struct config_node *root)
{
    struct config *config = reader->config;
    const struct config_node *services = config_node_get(root, "services");
    const struct config_entry *entry = services != NULL ? services->first : NULL;
    for (uint32_t i = 0; i < config->service_count && entry != NULL; i++, entry = entry->next) {
        const struct config_service *service = &config->services[i];
        const struct config_entry *version = config_node_get(entry->value, "versions")->first;
        for (uint32_t k = 0; k < service->version_count; k++, version = version->next)
            config_endpoints_names(reader, config_endpoints_node(version->value),
                                   &service->versions[k].origin, service->versions[k].endpoints,
                                   service->versions[k].endpoint_count);
        if (service->control_endpoint_count > 0)
            config_endpoints_names(reader, config_endpoints_node(config_node_get(entry->value, "control")),
                                   &service->control_origin, service->control_endpoints,
                                   service->control_endpoint_count);
    }
    if (reader->errors->count == 0)
        unverified_note(config);
}
