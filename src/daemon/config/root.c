// SPDX-License-Identifier: Apache-2.0
// The file as a whole: which sections there are, and the order in which they are read and printed.
//
// A new word: (1) add its entry to the table of words in the file of its section, and to the struct in
// config.h when nothing holds its value yet, with `.restart` when a change of it needs a restart; (2) what it
// owes to other words goes into that section's `finish`, what it owes to other sections into the checks
// below; (3) run `make generated`: schema and reference are printed from the tables.
#include "base/check.h"
#include "daemon/config/config_private.h"

static const struct config_choice io_choices[] = {
    {"auto", IO_KIND_AUTO}, {"epoll", IO_KIND_EPOLL}, {"uring", IO_KIND_URING}, {NULL, 0}};

static const struct config_word root_words[] = {
    {.word = "workers",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config, workers),
     .min = 1,
     .max = CONFIG_WORKERS_MAX,
     .zero = "auto",
     .fallback = "auto",
     .restart = CONFIG_RESTART_CHANGED,
     .help = "threads that forward requests; auto is one per core"},
    {.word = "io",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config, io),
     .choices = io_choices,
     .fallback = "auto",
     .restart = CONFIG_RESTART_CHANGED,
     .help = "how the kernel is asked; auto takes io_uring where it is allowed"},
    {.word = "journal",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config, journal),
     .fallback = "sluice.db",
     .restart = CONFIG_RESTART_CHANGED,
     .help = "the file that keeps every input and decision"},
    {.word = "listen",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config, listen, listen_count),
     .min = 1,
     .max = CONFIG_LISTEN_MAX,
     .section = &config_listen_section,
     .required = true,
     .unless = "flags",
     .restart = CONFIG_RESTART_CHANGED,
     .help = "where clients connect"},
    {.word = "admin",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config, admin),
     .section = &config_admin_section,
     .restart = CONFIG_RESTART_CHANGED,
     .help = "where operators connect"},
    {.word = "zone",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct config, zone),
     .help = "where this proxy stands; endpoints of the same `zone` come first"},
    {.word = "trust",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config, trust),
     .section = &config_trust_section,
     .help = "whom to believe"},
    {.word = "forwarded",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config, forwarded),
     .choices = config_off_or_on,
     .fallback = "off",
     .help = "whether services get Forwarded (RFC 7239) beside the headers X-Forwarded-"},
    {.word = "request_id",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config, request_id),
     .section = &config_request_id_section,
     .optional = true,
     .help = "an id for each request"},
    {.word = "limits",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config, limits),
     .section = &config_limits_section,
     .help = "what is held at most"},
    {.word = "timeouts",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config, timeouts),
     .section = &config_timeouts_section,
     .help = "how long things may take"},
    {.word = "log",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config, log),
     .section = &config_log_section,
     .help = "what is written to standard error"},
    {.word = "names",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config, names),
     .section = &config_names_section,
     .help = "how names of endpoints are looked up"},
    {.word = "services",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config, services, service_count),
     .min = 1,
     .max = CONFIG_SERVICES_MAX,
     .section = &config_service_section,
     .merged = true,
     .required = true,
     .unless = "flags",
     .help = "what answers requests, in which versions"},
    {.word = "routes",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config, routes, route_count),
     .max = CONFIG_OWN_ROUTES_MAX,
     .section = &config_own_route_section,
     .fallback = "none",
     .help = "requests that no service gets: redirects and fixed answers"},
    {.word = "rollouts",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config, rollouts, rollout_count),
     .max = CONFIG_ROLLOUTS_MAX,
     .section = &config_rollout_section,
     .merged = true,
     .fallback = "none",
     .help = "which versions are to be shipped, and how"},
    {.word = "segments",
     .kind = CONFIG_KIND_TREE,
     CONFIG_AT(struct config, segments),
     .merged = true,
     .help = "groups of users: names, each with a rule in JSON Logic; for `{$ref: name}` in flags and for "
             "rings of rollouts"},
    {.word = "flags",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config, flags),
     .section = &config_flags_section,
     .optional = true,
     .restart = CONFIG_RESTART_ON_OFF,
     .help = "runtime feature flags"},
    {.word = "programmes", .kind = CONFIG_KIND_LATER, .help = "programmes are"},
};
const struct config_section config_root_section = {
    .title = "file",
    .help = "The whole of one YAML file, or of all the *.yaml files of one directory together.",
    CONFIG_WORDS(root_words),
};

void config_cross_check(struct config_reader *reader, const struct config_node *root)
{
    // Rollouts name things, which can be told beside other errors; the rest rests on whole services.
    config_rollouts_check(reader, root);
    if (reader->errors->count > 0)
        return;
    // Before what takes time in the square of them.
    if (!config_totals_check(reader, root))
        return;
    config_listen_check(reader, root);
    config_routes_check(reader, root);
    config_services_check(reader, root);
    config_origins_check(reader, root);
}
