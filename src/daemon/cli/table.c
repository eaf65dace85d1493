// SPDX-License-Identifier: Apache-2.0
// The one table of commands. Parser, help, completion and man page all come from it.
#include <stddef.h>

#include "daemon/cli/cli_private.h"

#define OPTION_ADMIN                                                                                         \
    {                                                                                                        \
        "admin", 'a', "ADDR", "admin address of the daemon (default: SLUICE_ADMIN, else 127.0.0.1:9440)"     \
    }
#define OPTION_JSON                                                                                          \
    {                                                                                                        \
        "json", 'j', NULL, "the daemon's answer as JSON"                                                     \
    }
#define OPTION_WHO                                                                                           \
    {                                                                                                        \
        "who", 0, "NAME", "who gives the command, for the journal (default: the unix user)"                  \
    }
#define OPTION_JOURNAL                                                                                       \
    {                                                                                                        \
        "journal", 0, "PATH",                                                                                \
            "when no daemon answers and none holds this journal: write it there, for the next start"         \
    }
#define END_OPTION                                                                                           \
    {                                                                                                        \
        NULL, 0, NULL, NULL                                                                                  \
    }
#define END_PAIR                                                                                             \
    {                                                                                                        \
        NULL, NULL                                                                                           \
    }
#define END_EXIT                                                                                             \
    {                                                                                                        \
        0, NULL                                                                                              \
    }

static const struct cli_option init_options[] = {
    {"listen", 0, "ADDR", "where clients connect (default 0.0.0.0:8080)"},
    {"stable", 0, "ADDR", "where the version that runs today answers (default 127.0.0.1:9001)"},
    {"next", 0, "ADDR", "where the new version answers (default 127.0.0.1:9002)"},
    {"force", 'f', NULL, "write over a file that is there"},
    END_OPTION};
static const struct cli_example init_examples[] = {
    {"sluice init", "asks three questions and writes sluice.yaml"},
    {"sluice init --listen 8080 --stable 10.0.0.5:80 --next 10.0.0.6:80 shop.yaml", "without asking"},
    END_PAIR};
static const struct cli_exit_note init_exits[] = {
    {0, "written"},
    {1, "nothing was written: the file is there already, or no answer came"},
    {4, "the file cannot be written"},
    END_EXIT};

static const struct cli_option certificate_options[] = {
    {"days", 'd', "N", "how long it is good (default 90)"},
    {"out", 'o', "STEM", "written to STEM.pem and STEM.key (default: the first name)"},
    END_OPTION};
static const struct cli_example certificate_examples[] = {
    {"sluice certificate shop.example '*.shop.example'", "shop.example.pem and shop.example.key"},
    {"sluice certificate localhost 127.0.0.1 --out first", "first.pem and first.key"},
    END_PAIR};
static const struct cli_exit_note certificate_exits[] = {
    {0, "written"},
    {1, "a file is there already, or no certificate can have that name"},
    {4, "a file cannot be written"},
    END_EXIT};

static const struct cli_option serve_options[] = {
    {"log", 0, "FORMAT", "text or json (default: as the file says)"},
    {"workers", 0, "N", "worker threads (default: as the file says, else one per core)"},
    {"io", 0, "KIND", "event loop: auto, epoll or uring (default: as the file says)"},
    {"supervise", 0, NULL,
     "keep a small parent that holds the listeners and replaces a process that dies or hangs; SIGUSR2 puts the "
     "binary that is installed now in its place"},
    {"hang-after", 0, "TIME", "with --supervise: silent for so long, and it is replaced (default: 2s)"},
    END_OPTION};
static const struct cli_example serve_examples[] = {
    {"sluice serve sluice.yaml", "serve in the foreground; SIGTERM drains"},
    {"sluice serve --supervise sluice.yaml", "the same, and no crash refuses a connection"},
    {"sluice serve --log json /etc/sluice.d", "a directory of files, logging JSON lines"},
    END_PAIR};
static const struct cli_exit_note serve_exits[] = {{0, "stopped by a signal, after the drain"},
                                                   {1, "the file is not valid"},
                                                   {4, "the file or the journal cannot be read"},
                                                   {5, "could not start: address in use, descriptors, ..."},
                                                   END_EXIT};

static const struct cli_option check_options[] = {
    {"rate", 'r', "N", "requests per second to plan with (default: today's, from the running daemon)"},
    {"error-rate", 'e', "PERCENT",
     "share of errors of the stable version, such as 0.2% (default: measured, else 0.1%)"},
    OPTION_ADMIN,
    {"no-ask", 0, NULL, "do not ask a running daemon for today's rates and stable versions"},
    {"route", 0, "REQUEST", "only tell where one request goes, such as 'GET https://shop.example/x'"},
    {"header", 'H', "LINE...", "with --route: a header of the request, 'name: value'; may be repeated"},
    {"json", 'j', NULL, "with --route: the answer as JSON"},
    END_OPTION};
static const struct cli_example check_examples[] = {
    {"sluice check sluice.yaml", "validate, and print the plan of every rollout"},
    {"sluice check --rate 200 --error-rate 0.2% sluice.yaml", "the plan at 200 requests per second"},
    {"sluice check sluice.yaml --route 'GET https://shop.example/x' -H 'x-beta: yes'",
     "which route it takes, why, and what its service gets"},
    END_PAIR};
static const struct cli_exit_note check_exits[] = {
    {0, "the file is valid"}, {1, "the file is not valid"}, {4, "the file cannot be read"}, END_EXIT};

static const struct cli_option command_options[] = {OPTION_ADMIN, OPTION_JSON, OPTION_WHO, END_OPTION};
static const struct cli_option upgrade_options[] = {OPTION_ADMIN, OPTION_WHO, END_OPTION};
static const struct cli_example upgrade_examples[] = {
    {"mv sluice.new /usr/bin/sluice && sluice upgrade", "another binary, while requests are served"},
    END_PAIR};
static const struct cli_exit_note upgrade_exits[] = {
    {0, "the other binary serves"},
    {1, "it does not: the one before serves on, and the reason is printed"},
    {3, "the daemon does not answer"},
    END_EXIT};
static const struct cli_example reload_examples[] = {
    {"sluice reload && sluice rollout start checkout-v2", "put an edited file in force, then ship"},
    END_PAIR};
static const struct cli_exit_note reload_exits[] = {
    {0, "the file is in force"},
    {1, "refused: nothing changed, and the reasons are printed"},
    {3, "the daemon does not answer"},
    END_EXIT};

static const struct cli_option status_options[] = {
    {"watch", 'w', NULL, "show it again every second until Ctrl-C"}, OPTION_JSON, OPTION_ADMIN, END_OPTION};
static const struct cli_example status_examples[] = {{"sluice status", "one line per rollout"},
                                                     {"sluice status || page-somebody", "by the exit code"},
                                                     END_PAIR};
static const struct cli_exit_note status_exits[] = {
    {0, "nothing waits for a person"},
    {3, "the daemon does not answer"},
    {10, "a rollout waits for a person: undecided, paused, awaiting approval, or blocked"},
    {11, "a rollout of the file was taken back and has not been started again"},
    {12, "the journal cannot be written: decisions stand still (wins over the others)"},
    END_EXIT};

static const struct cli_option safe_options[] = {OPTION_ADMIN, OPTION_JSON, OPTION_WHO, OPTION_JOURNAL,
                                                 END_OPTION};
static const struct cli_option undo_options[] = {
    OPTION_ADMIN, OPTION_JSON, OPTION_WHO, OPTION_JOURNAL, {"yes", 'y', NULL, "do not ask"}, END_OPTION};
static const struct cli_exit_note safe_exits[] = {{0, "done, and in the journal; or it was so already"},
                                                  {1, "refused; the reason is printed"},
                                                  {3, "the daemon does not answer, and may be alive"},
                                                  {4, "the journal cannot be read or written"},
                                                  END_EXIT};
static const struct cli_exit_note command_exits[] = {{0, "done, and in the journal; or it was so already"},
                                                     {1, "refused; the reason is printed"},
                                                     {3, "the daemon does not answer"},
                                                     END_EXIT};
#define OPTION_VERSION                                                                                       \
    {                                                                                                        \
        "version", 0, "NAME", "of which version (default: the only one)"                                     \
    }
static const struct cli_option endpoints_options[] = {OPTION_VERSION, OPTION_ADMIN, OPTION_JSON, OPTION_WHO,
                                                      END_OPTION};
static const struct cli_option endpoints_add_options[] = {
    {"weight", 0, "N", "how much it gets beside the others (default 1)"},
    OPTION_VERSION,
    OPTION_ADMIN,
    OPTION_JSON,
    OPTION_WHO,
    END_OPTION};
static const struct cli_example endpoints_add_examples[] = {
    {"sluice endpoints add shop 10.0.0.7:80 --version v1", "one more endpoint, at once"}, END_PAIR};
static const struct cli_example endpoints_drain_examples[] = {
    {"sluice endpoints drain shop 10.0.0.7:80 --version v1", "before the machine is restarted"}, END_PAIR};
static const struct cli_example endpoints_reset_examples[] = {
    {"sluice endpoints reset shop --version v1", "what the file says counts again"}, END_PAIR};
static const struct cli_option read_options[] = {OPTION_ADMIN, OPTION_JSON, END_OPTION};
static const struct cli_option watch_options[] = {
    OPTION_ADMIN,
    {"once", '1', NULL, "show it once and end"},
    {"plain", 0, NULL, "lines instead of a screen, even on a terminal"},
    END_OPTION};
static const struct cli_exit_note watch_exits[] = {
    {0, "it completed, or you left"}, {3, "the daemon does not answer"}, {11, "it was taken back"}, END_EXIT};

static const struct cli_example start_examples[] = {
    {"sluice rollout start checkout-v2", "begin; then watch it"}, END_PAIR};
static const struct cli_example watch_examples[] = {
    {"sluice rollout watch checkout-v2", "live view; q leaves, the rollout goes on"},
    {"sluice rollout watch checkout-v2 | tee log", "one line per change"},
    END_PAIR};
static const struct cli_example abort_examples[] = {
    {"sluice rollout abort checkout-v2", "all traffic back to the stable version, now"},
    {"sluice rollout abort --journal /var/lib/sluice/sluice.db checkout-v2",
     "also when the daemon is down: its next start gives the new version nothing"},
    END_PAIR};
static const struct cli_example undo_examples[] = {
    {"sluice rollout undo --yes checkout-v2", "back, without asking"}, END_PAIR};
static const struct cli_example approve_examples[] = {
    {"sluice rollout approve --who sre checkout-v2", "where the file says `approve: {by: sre}`"}, END_PAIR};
static const struct cli_example explain_examples[] = {
    {"sluice rollout explain checkout-v2", "why it is where it is, and what it still needs"}, END_PAIR};
static const struct cli_example history_examples[] = {
    {"sluice rollout history checkout-v2", "every decision, oldest first"}, END_PAIR};

static const struct cli_option replay_options[] = {{"json", 'j', NULL, "the result as JSON"}, END_OPTION};
static const struct cli_example replay_examples[] = {
    {"sluice replay sluice.db", "works on a copy and beside a running daemon"}, END_PAIR};
static const struct cli_exit_note replay_exits[] = {
    {0, "every decision came out the same"},
    {1, "a decision differs; the first difference is printed"},
    {4, "the journal cannot be read, was damaged or changed"},
    END_EXIT};

static const struct cli_option diff_options[] = {
    {"type", 't', "MEDIA", "how both are read, such as application/json (default: as the first file looks)"},
    {"ignore", 'i', "PATH...", "leave out this path; '*' stands for any characters; may be repeated"},
    {"spelling", 0, NULL, "also numbers of one value that are written otherwise"},
    {"path", 'p', "PATH",
     "of a service or rollout: only paths that fit, each in words; '*' stands for any characters"},
    {"examples", 'e', NULL, "of a service or rollout: also requests at which answers differed"},
    {"json", 'j', NULL, "the findings, or the daemon's answer, as JSON"},
    OPTION_ADMIN,
    END_OPTION};
static const struct cli_example diff_examples[] = {
    {"sluice diff old.json new.json", "what changed, path by path: members in any order, numbers by value"},
    {"sluice diff old.json new.json -i 'body.*.updated_at' -i body.request_id",
     "without what always differs"},
    {"sluice diff shop",
     "how the answers of the version that shop is mirrored to differ from those of today"},
    {"sluice diff shop -p 'body.items*' -e", "of these paths, with the requests"},
    END_PAIR};
static const struct cli_exit_note diff_exits[] = {
    {0, "no difference, or none that is more than noise"},
    {1, "there are differences"},
    {3, "no daemon answers"},
    {4, "a file cannot be read; nothing is mirrored, or nothing was compared yet"},
    END_EXIT};

static const struct cli_option load_options[] = {
    {"rate", 'r', "N", "requests per second (default 100)"},
    {"rate-end", 0, "N", "the rate changes evenly to this over the run"},
    {"duration", 'd', "TIME", "how long, such as 10s or 2m (default 10s)"},
    {"connections", 'c', "N", "connections at most (default 512)"},
    {"timeout", 't', "TIME", "of one request, from its scheduled moment (default 30s)"},
    {"poisson", 0, NULL, "random gaps instead of equal ones"},
    {"host", 0, "NAME", "Host field (default: that of the URL)"},
    {"header", 'H', "LINE", "one field sent with every request, such as \"Accept: text/html\""},
    {"replay", 0, "LOG", "requests from an access log in combined format (GET, HEAD, OPTIONS only)"},
    {"json", 'j', NULL, "the result as JSON"},
    END_OPTION};
static const struct cli_example load_examples[] = {
    {"sluice load -r 500 -d 30s http://127.0.0.1:8080/", "500 requests per second, whatever the server does"},
    {"sluice load --replay access.log -r 50 http://127.0.0.1:8080", "the paths of a log, at 50 per second"},
    END_PAIR};
static const struct cli_exit_note load_exits[] = {{0, "every request was answered without a server error"},
                                                  {1, "some failed"},
                                                  {4, "the log cannot be used"},
                                                  END_EXIT};

static const struct cli_option demo_options[] = {
    {"plain", 0, NULL, "lines instead of a screen, even on a terminal"},
    {"rate", 'r', "N", "requests per second of the built-in load (default 800)"},
    END_OPTION};
static const struct cli_example demo_examples[] = {
    {"sluice demo", "a bad version is taken back, a good one goes to 100 %; nothing to configure"}, END_PAIR};
static const struct cli_exit_note demo_exits[] = {
    {0, "it went as told"},
    {1, "it did not: a request failed that no origin failed, or a verdict was wrong"},
    END_EXIT};

// ---- flags

static const struct cli_option flag_list_options[] = {
    {"stale", 's', NULL, "only flags that are not evaluated, or gave one variant, for 30 days"},
    {"changed", 'c', NULL, "only flags that were changed at runtime or are driven by a rollout"},
    OPTION_ADMIN,
    OPTION_JSON,
    END_OPTION};
static const struct cli_example flag_list_examples[] = {
    {"sluice flag list", "all flags: state, default, evaluations, source, what was changed"},
    {"sluice flag list checkout", "those with \"checkout\" in their key"},
    {"sluice flag list --changed", "what somebody switched, and nobody switched back"},
    END_PAIR};
static const struct cli_example flag_show_examples[] = {
    {"sluice flag show new-checkout", "variants, use, what stands over it, and its definition"}, END_PAIR};
static const struct cli_option flag_set_options[] = {
    {"default", 'd', "VARIANT", "instead of a file: only another default variant"},
    OPTION_WHO,
    OPTION_ADMIN,
    OPTION_JSON,
    END_OPTION};
static const struct cli_example flag_set_examples[] = {
    {"sluice flag set new-checkout new-checkout.json", "the definition of one flag, as in a flagd file"},
    {"echo '{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"off\"}' | "
     "sluice flag set fresh -",
     "from standard input"},
    {"sluice flag set banner --default red", "the same definition with another default variant"},
    END_PAIR};
static const struct cli_option flag_on_options[] = {OPTION_WHO, OPTION_ADMIN, OPTION_JSON, END_OPTION};
static const struct cli_example flag_on_examples[] = {
    {"sluice flag on new-checkout", "after \"off\", or where the file says DISABLED"}, END_PAIR};
static const struct cli_option flag_off_options[] = {
    {"variant", 'v', "NAME",
     "everybody gets this variant (default: the one that is false; without one, the default in the caller's code)"},
    OPTION_JOURNAL,
    OPTION_WHO,
    OPTION_ADMIN,
    OPTION_JSON,
    END_OPTION};
static const struct cli_example flag_off_examples[] = {
    {"sluice flag off new-checkout", "everybody gets false, now"},
    {"sluice flag off banner --variant plain", "everybody gets the variant \"plain\", now"},
    END_PAIR};
static const struct cli_option flag_unset_options[] = {
    {"yes", 'y', NULL, "do not ask"}, OPTION_WHO, OPTION_ADMIN, OPTION_JSON, END_OPTION};
static const struct cli_example flag_unset_examples[] = {
    {"sluice flag unset new-checkout", "the sources speak again"}, END_PAIR};
static const struct cli_option flag_eval_options[] = {
    {"context", 'c', "JSON", "the evaluation context, or @FILE"},
    {"key", 'k', "KEY", "the targeting key: who asks"},
    {"type", 't', "TYPE", "what the caller expects: boolean, string, integer, float, object (default: any)"},
    {"file", 'f', "FILE", "offline: evaluate with this file instead of the daemon's flags"},
    {"segments", 0, "FILE", "offline: the configuration file whose segments the flags refer to"},
    OPTION_ADMIN,
    {"json", 'j', NULL, "the result as JSON"},
    END_OPTION};
static const struct cli_example flag_eval_examples[] = {
    {"sluice flag eval new-checkout --key user-1", "what user-1 gets, and which rule decided"},
    {"sluice flag eval new-checkout -k user-1 -c '{\"plan\":\"beta\"}'", "with a context"},
    {"sluice flag eval new-checkout -k user-1 --file flags.json", "before the file is shipped"},
    END_PAIR};
static const struct cli_exit_note flag_eval_exits[] = {
    {0, "there is an answer"},
    {1, "there is no such flag, or it answers with an error (also printed)"},
    {3, "the daemon does not answer"},
    {4, "a file cannot be read"},
    END_EXIT};
static const struct cli_example flag_history_examples[] = {
    {"sluice flag history", "every change at runtime, newest last: what, by whom, from where"},
    {"sluice flag history new-checkout", "of one flag"},
    END_PAIR};
static const struct cli_option flag_import_options[] = {
    {"from", 'f', "SYSTEM", "launchdarkly, unleash or flagd (default: as the file looks)"},
    {"environment", 'e', "NAME", "of exports that hold several"},
    {"output", 'o', "FILE", "write the flagd file here instead of standard output"},
    {"strict", 0, NULL, "do nothing when a part would be lost"},
    {"apply", 0, NULL, "set the flags in the running daemon"},
    {"yes", 'y', NULL, "do not ask before applying"},
    OPTION_WHO,
    OPTION_ADMIN,
    {"json", 'j', NULL, "the result of applying as JSON"},
    END_OPTION};
static const struct cli_example flag_import_examples[] = {
    {"sluice flag import export.json --from launchdarkly -e production -o flags.json",
     "a file to review, check and ship; what does not map is listed on standard error"},
    {"sluice flag import flags.json --apply", "set them in the daemon, after asking"},
    END_PAIR};
static const struct cli_exit_note flag_import_exits[] = {
    {0, "done; what was lost is listed"},
    {1, "not importable, not confirmed, refused, or --strict and something would be lost"},
    {3, "the daemon does not answer"},
    {4, "a file cannot be read or written"},
    END_EXIT};
static const struct cli_option flag_export_options[] = {
    {"output", 'o', "FILE", "write here instead of standard output"}, OPTION_ADMIN, END_OPTION};
static const struct cli_example flag_export_examples[] = {
    {"sluice flag export -o flags.json", "all flags in force as one flagd file, runtime changes included"},
    END_PAIR};
static const struct cli_option flag_lint_options[] = {
    {"segments", 0, "FILE", "the configuration file whose segments the flags refer to"},
    {"stale", 's', NULL, "also say which flags the running daemon calls stale"},
    OPTION_ADMIN,
    {"json", 'j', NULL, "the problems as JSON"},
    END_OPTION};
static const struct cli_example flag_lint_examples[] = {
    {"sluice flag lint flags.json", "every problem with its line and column"},
    {"sluice flag lint --stale flags/*.json", "and which flags can go from the code"},
    END_PAIR};
static const struct cli_exit_note flag_lint_exits[] = {{0, "no errors (there may be warnings)"},
                                                       {1, "errors"},
                                                       {3, "--stale: the daemon does not answer"},
                                                       {4, "a file cannot be read"},
                                                       END_EXIT};
static const struct cli_option flag_token_options[] = {
    {"name", 'n', "NAME", "who will use it, such as web-shop"},
    {"kind", 'k', "KIND", "read (evaluates; the default) or server (also reads definitions)"},
    {"environment", 'e', "NAME", "the flagSetId it may see (default: all)"},
    {"json", 'j', NULL, "token and line as JSON"},
    END_OPTION};
static const struct cli_example flag_token_examples[] = {
    {"sluice flag token --name web-shop", "a token for a client; add its line to the file of `tokens`"},
    {"sluice flag token --name backup --kind server --environment eu", "may read definitions of one set"},
    END_PAIR};

const struct cli_command cli_commands[] = {
    {"demo", NULL, "", "the whole story on this machine, nothing to configure",
     "Starts two small origins, the proxy and a load generator on loopback, then ships two versions: a bad "
     "one, "
     "which is taken back by itself, and a good one, which goes to 100 %. Every number shown was measured.",
     demo_options, demo_examples, demo_exits, cli_run_demo},
    {"init", NULL, "FILE?", "write a first file from three addresses",
     "FILE is sluice.yaml by default. What is not given as an option is asked for on a terminal, and takes its default "
     "elsewhere. A port alone is enough. The file has comments, and \"sluice check\" accepts it.",
     init_options, init_examples, init_exits, cli_run_init},
    {"certificate", NULL, "NAME...", "a certificate that signs itself, for first tries with TLS",
     "NAME is a host, a wildcard such as '*.shop.example', or an address. Files that are there are left as they are.",
     certificate_options, certificate_examples, certificate_exits, cli_run_certificate},
    {"serve", NULL, "FILE", "the daemon: splits, measures, decides",
     "Reads the file, replays the journal, opens the listeners, and serves until SIGTERM or SIGINT (a second "
     "one ends it at once). \"sluice reload\" or SIGHUP reads the file again: a bad file changes nothing.",
     serve_options, serve_examples, serve_exits, cli_run_serve},
    {"check", NULL, "FILE", "validate a file and print the plan: stages, requests and time each needs", "",
     check_options, check_examples, check_exits, cli_run_check},
    {"reload", NULL, "", "have the daemon read its file again, and wait for the outcome",
     "The daemon reads the file that it was started with. A bad file changes nothing. What takes effect only when "
     "the daemon is started again is named.",
     command_options, reload_examples, reload_exits, cli_run_reload},
    {"upgrade", NULL, "",
     "put the binary that is installed now in the place of the one that serves, and wait for the outcome",
     "For a daemon that was started with --supervise: no connection is refused, what is under way is served to its end, "
     "and a binary that does not take the file, or does not serve, is taken back.",
     upgrade_options, upgrade_examples, upgrade_exits, cli_run_upgrade},
    {"status", NULL, "", "everything rolling, one line each; exit code for scripts", "", status_options,
     status_examples, status_exits, cli_run_status},
    {"rollout", "start", "NAME", "begin a rollout, or begin it anew after it was taken back", "",
     command_options, start_examples, command_exits, cli_run_rollout_command},
    {"rollout", "watch", "NAME", "live view of one rollout", "", watch_options, watch_examples, watch_exits,
     cli_run_rollout_watch},
    {"rollout", "pause", "NAME", "hold the weight where it is; a bad version still goes back", "",
     safe_options, NULL, safe_exits, cli_run_rollout_command},
    {"rollout", "resume", "NAME", "go on after a pause, or give an undecided stage another horizon", "",
     command_options, NULL, command_exits, cli_run_rollout_command},
    {"rollout", "promote", "NAME", "to the next stage, without waiting for evidence", "", command_options,
     NULL, command_exits, cli_run_rollout_command},
    {"rollout", "abort", "NAME", "all traffic back to the stable version, at once",
     "Does not ask: in an emergency it is the one word to type.", safe_options, abort_examples, safe_exits,
     cli_run_rollout_command},
    {"rollout", "undo", "NAME", "after completion: back to the old version, while it is kept",
     "Asks on a terminal, unless --yes is given.", undo_options, undo_examples, safe_exits,
     cli_run_rollout_command},
    {"rollout", "approve", "NAME", "the answer a stage with `approve` waits for", "", command_options,
     approve_examples, command_exits, cli_run_rollout_command},
    {"rollout", "explain", "NAME", "why it is where it is, and what it still needs", "", read_options,
     explain_examples, command_exits, cli_run_rollout_explain},
    {"rollout", "history", "NAME", "every decision with its reason", "", read_options, history_examples,
     command_exits, cli_run_rollout_history},
    {"endpoints", "list", "SERVICE", "the endpoints of each version of a service", "", read_options, NULL,
     command_exits, cli_run_endpoints},
    {"endpoints", "add", "SERVICE ADDRESS...", "more endpoints for a version, or other weights",
     "In force at once and after a restart, over what the file says, until \"reset\".", endpoints_add_options,
     endpoints_add_examples, command_exits, cli_run_endpoints},
    {"endpoints", "remove", "SERVICE ADDRESS...", "take endpoints away; what they have under way may end", "",
     endpoints_options, NULL, command_exits, cli_run_endpoints},
    {"endpoints", "drain", "SERVICE ADDRESS...",
     "no new requests for these endpoints; \"add\" brings them back", "", endpoints_options,
     endpoints_drain_examples, command_exits, cli_run_endpoints},
    {"endpoints", "reset", "SERVICE", "the file's endpoints again", "", endpoints_options,
     endpoints_reset_examples, command_exits, cli_run_endpoints},
    {"flag", "list", "TEXT?", "flags: state, default, evaluations, source, what was changed", "",
     flag_list_options, flag_list_examples, command_exits, cli_run_flag_list},
    {"flag", "show", "NAME", "one flag: variants, use, what stands over it, definition", "", read_options,
     flag_show_examples, command_exits, cli_run_flag_show},
    {"flag", "off", "NAME", "kill it: everybody gets its false variant, or the one named, at once",
     "Does not ask: in an emergency it is the one word to type. Without --variant a flag of true and false "
     "gives false. A flag of other values gives none, so that callers get the default in their own code: name "
     "a variant where that default may be on. Counts over whatever the files say, also after a restart, and "
     "when a file renames the variant, until \"on\" or \"unset\".",
     flag_off_options, flag_off_examples, safe_exits, cli_run_flag_off},
    {"flag", "on", "NAME", "enabled and not killed, whatever the file says; its rules decide", "",
     flag_on_options, flag_on_examples, command_exits, cli_run_flag_on},
    {"flag", "set", "NAME DEFINITION?", "a definition over whatever the sources say, kept over restarts",
     "DEFINITION is a file with one flag's JSON object, or \"-\" for standard input. It is checked whole "
     "before anything is kept.",
     flag_set_options, flag_set_examples, command_exits, cli_run_flag_set},
    {"flag", "unset", "NAME", "take away what was changed at runtime: the sources speak again",
     "Undoes \"set\", \"on\" and \"off\" of this flag. Asks on a terminal when a definition would go, unless "
     "--yes is "
     "given.",
     flag_unset_options, flag_unset_examples, command_exits, cli_run_flag_unset},
    {"flag", "eval", "NAME", "what somebody gets, and which rule decided",
     "Is not counted as a use of the flag.", flag_eval_options, flag_eval_examples, flag_eval_exits,
     cli_run_flag_eval},
    {"flag", "history", "NAME?", "who changed what at runtime, when and from where", "", read_options,
     flag_history_examples, command_exits, cli_run_flag_history},
    {"flag", "import", "FILE", "flags of LaunchDarkly, Unleash or flagd as a flagd file, or into the daemon",
     "Prints the flagd file; what does not map, or behaves differently, is listed on standard error with its "
     "flag. FILE may be \"-\".",
     flag_import_options, flag_import_examples, flag_import_exits, cli_run_flag_import},
    {"flag", "export", "", "all flags in force as one flagd file", "", flag_export_options,
     flag_export_examples, command_exits, cli_run_flag_export},
    {"flag", "lint", "FILE...", "every problem of files of flags, with its place",
     "Needs no daemon. FILE may be \"-\".", flag_lint_options, flag_lint_examples, flag_lint_exits,
     cli_run_flag_lint},
    {"flag", "token", "", "a fresh token for clients that ask for flags",
     "The token is printed once and kept nowhere; the file of tokens holds only its hash.",
     flag_token_options, flag_token_examples, NULL, cli_run_flag_token},
    {"replay", NULL, "JOURNAL",
     "derive every decision again from what was counted; exit 1 at the first difference", "", replay_options,
     replay_examples, replay_exits, cli_run_replay},
    {"diff", NULL, "FILE|NAME SECOND?", "what two versions answer differently, path by path",
     "With two operands, two stored bodies: SECOND is a file like the first one. JSON is compared by value, text by "
     "lines, all else by bytes. "
     "With one, the rollout or service of that name, as a running daemon has compared its mirrored requests: what differs "
     "by more than the old version does from itself, what is noise, and what cannot be told yet.",
     diff_options, diff_examples, diff_exits, cli_run_diff},
    {"load", NULL, "URL", "open-loop load, with latency that admits stalls",
     "Requests leave on schedule whatever the server does, and latency counts from the scheduled moment.",
     load_options, load_examples, load_exits, cli_run_load},
    {"version", NULL, "", "the version of this program", "", NULL, NULL, NULL, cli_run_version},
    {"completion", NULL, "SHELL", "completion for bash, zsh or fish, on standard output", "", NULL, NULL,
     NULL, cli_run_completion},
    {"man", NULL, "", "the manual page in troff, on standard output", "", NULL, NULL, NULL, cli_run_man},
    {"help", NULL, "COMMAND? VERB?", "what a command does, with examples", "", NULL, NULL, NULL,
     cli_run_help},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL}};
