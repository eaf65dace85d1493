// SPDX-License-Identifier: Apache-2.0
// Commands about rollouts, all through the admin API: status, start ... approve, watch, explain, history.
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/heap.h"
#include "daemon/cli/client.h"
#include "daemon/cli/screen.h"
#include "daemon/cli/shown.h"
#include "daemon/cli/view.h"

enum {
    WATCH_MS = 250,
    WATCH_PLAIN_MS = 500,
    WATCH_PLAIN_EVERY_MS = 5000,
    WATCH_ANSWER_MS = 2000,
    LIST_COLUMNS = 200
};

// ---- asking ----

// Names reach a URL only as they may stand in the file: anything else cannot be the name of a rollout.
static bool name_fits(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return len > 0 && len < ROLLOUT_NAME_BYTES && name[len] == '\0';
}

static int open_client(const struct cli_call *call, struct cli_client **client)
{
    if (call->arg_count > 0 && !name_fits(call->args[0])) {
        fprintf(call->err,
                "sluice: \"%s\" cannot be the name of a rollout (letters, digits, '.', '_', '-')\n",
                cli_shown(call->args[0]));
        return CLI_EXIT_USAGE;
    }
    return cli_client_of(call, client);
}

static void path_of(const struct cli_call *call, const char *tail, char path[160])
{
    snprintf(path, 160, "/v1/rollouts/%s%s", call->args[0], tail);
}

// GET of an address below the rollout's; the answer is the caller's to free when OK comes back.
static int ask(const struct cli_call *call, const char *tail, json_t **answer)
{
    struct cli_client *client;
    int code = open_client(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    char path[160];
    path_of(call, tail, path);
    code = cli_get(call, client, path, answer);
    cli_client_close(client);
    return code;
}

static void print_line(const struct cli_call *call, const struct cli_view *view)
{
    char storage[1024];
    struct text text = text_over(storage, sizeof storage);
    cli_view_line(view, cli_now_ms(), &text);
    fprintf(call->out, "%s\n", storage);
}

static int ask_view(const struct cli_call *call, struct cli_client *client, struct cli_view *view)
{
    char path[160];
    json_t *answer;
    path_of(call, "", path);
    int code = cli_get(call, client, path, &answer);
    if (code != CLI_EXIT_OK)
        return code;
    enum status status = cli_view_read(answer, view);
    json_decref(answer);
    return status == STATUS_OK ? CLI_EXIT_OK : cli_say_unreachable(call, client, STATUS_INVALID);
}

// ---- status ----

static void print_stables(const struct cli_call *call, const json_t *services)
{
    for (size_t i = 0; i < json_array_size(services); i++) {
        char storage[512];
        struct text text = text_over(storage, sizeof storage);
        if (cli_view_stable(json_array_get(services, i), &text))
            fprintf(call->out, "%s\n", storage);
    }
}

// Those that are not known as they should be.
static void print_names(const struct cli_call *call, const json_t *names)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        const json_t *name = json_array_get(names, i);
        size_t addresses = json_array_size(json_object_get(name, "addresses"));
        const char *state = cli_word(name, "state");
        if (strcmp(state, "known") == 0)
            continue;
        fprintf(call->out, "Name %s ", cli_word(name, "name"));
        if (strcmp(state, "waiting") == 0)
            fprintf(call->out, "was not answered yet");
        else
            fprintf(call->out, "is %s: %s", state, cli_word(name, "problem"));
        if (addresses > 0)
            fprintf(call->out, "; its last addresses stay (%zu)\n", addresses);
        else
            fprintf(call->out, "; it gives no endpoint\n");
    }
}

static void print_lists(const struct cli_call *call, const json_t *lists)
{
    for (size_t i = 0; i < json_array_size(lists); i++) {
        const json_t *list = json_array_get(lists, i);
        json_int_t endpoints = json_integer_value(json_object_get(list, "endpoints"));
        if (strcmp(cli_word(list, "state"), "good") == 0)
            continue;
        fprintf(call->out, "The list of endpoints %s of %s of %s is %s: %s; ", cli_word(list, "file"),
                cli_word(list, "version"), cli_word(list, "service"), cli_word(list, "state"),
                cli_word(list, "problem"));
        if (endpoints > 0)
            fprintf(call->out, "its last good endpoints stay (%lld)\n", (long long)endpoints);
        else
            fprintf(call->out, "the version has no endpoint\n");
    }
}

// Columns as wide as the terminal; elsewhere nothing is cut.
static struct cli_style list_style(const struct cli_call *call)
{
    struct cli_style style = cli_style_of(call->out);
    if (isatty(fileno(call->out)) != 1)
        style.columns = LIST_COLUMNS;
    style.rows = 1;
    return style;
}

static void print_row(const struct cli_call *call, const struct cli_view *view)
{
    char storage[1024];
    struct text text = text_over(storage, sizeof storage);
    struct cli_style style = list_style(call);
    if (view != NULL)
        cli_view_row(view, cli_now_ms(), &style, &text);
    else
        cli_view_row_heads(&style, &text);
    fputs(storage, call->out);
    if (view != NULL && view->file_differs)
        fprintf(call->out, "  the file says something else now; that counts from the next start\n");
}

static int print_status(const struct cli_call *call, const json_t *answer)
{
    int code = CLI_EXIT_OK;
    const json_t *rollouts = json_object_get(answer, "rollouts");
    const json_t *journal = json_object_get(answer, "journal");
    if (json_is_true(json_object_get(answer, "draining")))
        fprintf(call->out, "The daemon is shutting down.\n");
    for (size_t i = 0; i < json_array_size(rollouts); i++) {
        struct cli_view view;
        if (cli_view_read(json_array_get(rollouts, i), &view) != STATUS_OK)
            continue;
        if (i == 0)
            print_row(call, NULL);
        print_row(call, &view);
        // What nobody can start again is no reason to call somebody.
        if (strcmp(view.state, rollout_state_name(ROLLOUT_ROLLED_BACK)) == 0 && view.in_file)
            code = CLI_EXIT_ROLLED_BACK;
        else if (code == CLI_EXIT_OK && cli_view_waits(&view))
            code = CLI_EXIT_WAITING;
    }
    if (json_array_size(rollouts) == 0)
        fprintf(call->out, "No rollout is in the file.\n");
    print_stables(call, json_object_get(answer, "services"));
    print_names(call, json_object_get(answer, "names"));
    print_lists(call, json_object_get(answer, "endpoint_lists"));
    if (!json_is_true(json_object_get(journal, "failing")))
        return code;
    fprintf(call->out, "JOURNAL FAILS: no decision is taken, traffic goes on as it is: %s\n",
            cli_word(journal, "problem"));
    return CLI_EXIT_JOURNAL;
}

static int status_once(const struct cli_call *call, struct cli_client *client)
{
    json_t *answer;
    int code = cli_get(call, client, "/v1/status", &answer);
    if (code != CLI_EXIT_OK)
        return code;
    if (cli_given(call, "json"))
        cli_print_json(call->out, answer);
    else
        code = print_status(call, answer);
    json_decref(answer);
    return code;
}

static void show_status(const struct cli_call *call, const json_t *answer)
{
    if (isatty(fileno(call->out)) == 1)
        fputs("\033[H\033[2J", call->out);
    if (cli_given(call, "json"))
        cli_print_json(call->out, answer);
    else
        print_status(call, answer);
}

// Until somebody ends it. A daemon that answers no more leaves what it said last, with a word about it.
static int status_watch(const struct cli_call *call, struct cli_client *client)
{
    bool shown = false, stale = false;
    cli_client_limit(client, WATCH_ANSWER_MS);
    for (;;) {
        unsigned http = 0;
        json_t *answer = NULL;
        enum status status = cli_client_get(client, "/v1/status", &http, &answer);
        bool answered = status == STATUS_OK && http == 200;
        if (!answered && !shown) {
            json_decref(answer);
            return cli_say_unreachable(call, client, status != STATUS_OK ? status : STATUS_INVALID);
        }
        if (answered) {
            show_status(call, answer);
        } else if (!stale) {
            char clock[16];
            struct text text = text_over(clock, sizeof clock);
            cli_clock_write(cli_now_ms(), &text);
            fprintf(call->out, "\nNO ANSWER from the daemon since %s: this is how it was then. Asking on.\n",
                    clock);
        }
        shown = true;
        stale = !answered;
        json_decref(answer);
        fflush(call->out);
        sleep(1);
    }
}

int cli_run_status(const struct cli_call *call)
{
    struct cli_client *client;
    int code = open_client(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    code = cli_given(call, "watch") ? status_watch(call, client) : status_once(call, client);
    cli_client_close(client);
    return code;
}

// ---- commands ----

static bool sure(const struct cli_call *call)
{
    char question[ROLLOUT_NAME_BYTES + 64];
    if (strcmp(call->command->verb, "undo") != 0 || cli_given(call, "yes") || isatty(STDIN_FILENO) != 1)
        return true;
    snprintf(question, sizeof question, "Take %s back to its old version for all traffic?",
             cli_shown(call->args[0]));
    return cli_ask_person(call, question);
}

static void print_commanded(const struct cli_call *call, const json_t *answer, const struct cli_view *view)
{
    const char *already = cli_word(answer, "already");
    if (already[0] != '\0')
        fprintf(call->out, "sluice: %s\n", already);
    print_line(call, view);
}

static int give_command(const struct cli_call *call, struct cli_client *client)
{
    char path[160], tail[32];
    json_t *answer;
    snprintf(tail, sizeof tail, "/%s", call->command->verb);
    path_of(call, tail, path);
    int code = cli_send(call, client, "POST", path, SLICE("{}"), &answer);
    struct cli_view view;
    if (code == CLI_EXIT_OK && cli_given(call, "json"))
        cli_print_json(call->out, answer);
    else if (code == CLI_EXIT_OK && cli_view_read(answer, &view) == STATUS_OK)
        print_commanded(call, answer, &view);
    json_decref(answer);
    if (code == CLI_EXIT_OK && strcmp(call->command->verb, "start") == 0 && isatty(fileno(call->out)) == 1)
        fprintf(call->out, "Watch it: sluice rollout watch %s\n", call->args[0]);
    return code;
}

int cli_run_rollout_command(const struct cli_call *call)
{
    struct cli_client *client;
    if (!sure(call)) {
        fprintf(call->err, "Nothing was done.\n");
        return CLI_EXIT_NO;
    }
    int code = open_client(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    code = give_command(call, client);
    cli_client_close(client);
    return code == CLI_EXIT_UNREACHABLE ? cli_offline_rollout(call) : code;
}

// ---- watch ----

static int exit_of(const struct cli_view *view)
{
    return strcmp(view->state, rollout_state_name(ROLLOUT_ROLLED_BACK)) == 0 ? CLI_EXIT_ROLLED_BACK
                                                                             : CLI_EXIT_OK;
}

static void draw(const struct cli_call *call, struct cli_screen *screen, const struct cli_view *view,
                 char *frame)
{
    struct cli_style style = cli_style_of(call->out);
    struct text text = text_over(frame, CLI_VIEW_FRAME_BYTES);
    // The last two lines are for the hint.
    if (screen != NULL)
        style.rows = style.rows > 3 ? style.rows - 2 : 1;
    cli_view_draw(view, cli_now_ms(), &style, &text);
    if (screen == NULL) {
        fputs(frame, call->out);
        return;
    }
    if (!cli_view_final(view))
        text_add(&text, SLICE("\n q leaves this view; the rollout goes on"));
    cli_screen_show(screen, text_slice(&text));
}

static int watch_screen(const struct cli_call *call, struct cli_client *client, struct cli_screen *screen,
                        const struct cli_view *first, char *frame)
{
    struct cli_view view = *first;
    char path[160];
    path_of(call, "", path);
    cli_client_limit(client, WATCH_ANSWER_MS);
    for (int64_t answered_ms = cli_now_ms();;) {
        unsigned http = 0;
        json_t *answer = NULL;
        int64_t asked_ms = cli_now_ms();
        enum status status = cli_client_get(client, path, &http, &answer);
        struct cli_view now;
        bool known = status == STATUS_OK && http == 200 && cli_view_read(answer, &now) == STATUS_OK;
        if (known) {
            view = now;
            answered_ms = asked_ms;
        }
        view.stale_since_ms = known ? 0 : answered_ms;
        json_decref(answer);
        draw(call, screen, &view, frame);
        if (known && cli_view_final(&view))
            return exit_of(&view);
        if (cli_screen_wait(screen, WATCH_MS) == 'q')
            return CLI_EXIT_OK;
    }
}

static bool worth_a_line(const struct cli_view *view, const struct cli_view *before, int64_t told_ms,
                         int64_t now_ms)
{
    return strcmp(view->state, before->state) != 0 || view->stage != before->stage ||
           view->run != before->run || view->verdict_ms != before->verdict_ms ||
           now_ms - told_ms >= WATCH_PLAIN_EVERY_MS;
}

static int watch_plain(const struct cli_call *call, struct cli_client *client)
{
    struct cli_view before = {.name = ""};
    int64_t told_ms = 0;
    for (;;) {
        struct cli_view view;
        int code = ask_view(call, client, &view);
        if (code != CLI_EXIT_OK)
            return code;
        int64_t now_ms = cli_now_ms();
        if (worth_a_line(&view, &before, told_ms, now_ms)) {
            char storage[64];
            struct text text = text_over(storage, sizeof storage);
            cli_clock_write(now_ms, &text);
            fprintf(call->out, "%s ", storage);
            print_line(call, &view);
            if (view.has_verdict && view.verdict_ms != before.verdict_ms)
                fprintf(call->out, "%s%s%s\n", view.verdict, view.failures[0] != '\0' ? "\n" : "",
                        view.failures);
            fflush(call->out);
            told_ms = now_ms;
            before = view;
        }
        if (cli_view_final(&view))
            return exit_of(&view);
        usleep(WATCH_PLAIN_MS * 1000);
    }
}

int cli_run_rollout_watch(const struct cli_call *call)
{
    struct cli_client *client;
    int code = open_client(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    char *frame = heap_alloc(1, CLI_VIEW_FRAME_BYTES);
    struct cli_view view;
    code = frame != NULL ? ask_view(call, client, &view) : CLI_EXIT_UNREACHABLE;
    if (code == CLI_EXIT_OK && cli_given(call, "once")) {
        draw(call, NULL, &view, frame);
        code = exit_of(&view);
    } else if (code == CLI_EXIT_OK) {
        struct cli_screen *screen = cli_given(call, "plain") ? NULL : cli_screen_open(call->out);
        code = screen != NULL ? watch_screen(call, client, screen, &view, frame) : watch_plain(call, client);
        cli_screen_close(screen);
    }
    heap_free(frame);
    cli_client_close(client);
    return code;
}

// ---- explain and history ----

static void explain_errors(FILE *out, const json_t *rollout)
{
    const char *errors = json_string_value(json_object_get(rollout, "errors"));
    if (errors == NULL)
        return;
    fprintf(out, "\nAn error is: ");
    cli_print_told(out, errors);
    fprintf(out, ".\n");
    int64_t changed_ms = json_integer_value(json_object_get(rollout, "errors_changed_ms"));
    if (changed_ms == 0)
        return;
    char storage[32];
    struct text date = text_over(storage, sizeof storage);
    cli_date_write(changed_ms, &date);
    fprintf(out, "That was changed while it ran: its evidence counts from %s on.\n", storage);
}

static void explain_next(FILE *out, const struct cli_view *view)
{
    char storage[CLI_NEXT_BYTES];
    struct text text = text_over(storage, sizeof storage);
    cli_view_next(view, cli_now_ms(), &text);
    if (text.len > 0)
        fprintf(out, "\n%s.\n", storage);
}

static void explain_shadow(FILE *out, const struct cli_view *view)
{
    char storage[320];
    struct text text = text_over(storage, sizeof storage);
    if (!view->shadow.has_been)
        return;
    cli_view_shadow(view, &text);
    fprintf(out, "\nIn the shadow: %s.\n", storage);
}

static void explain(const struct cli_call *call, const struct cli_view *view, const json_t *rollout)
{
    FILE *out = call->out;
    print_line(call, view);
    explain_errors(out, rollout);
    if (view->has_verdict)
        fprintf(out, "\nThe last decision:\n%s\n", view->verdict);
    if (view->failures[0] != '\0')
        fprintf(out, "%s\n", view->failures);
    explain_shadow(out, view);
    explain_next(out, view);
    if (cli_view_final(view) || view->started_ms == 0)
        return;
    fprintf(out, "\nTo take it back: ln E %.2f of the %.2f that is needed.\n", view->bad, view->bad_needed);
    if (view->blocked)
        fprintf(out, "BLOCKED: requests do not arrive in the shares they were assigned, so no verdict can be "
                     "trusted. Look for a cache, a retrying client or a second balancer in between.\n");
    for (uint32_t i = 0; i < view->check_count; i++) {
        const struct cli_view_check *check = &view->checks[i];
        fprintf(out, "To go on, %s: ", check->name);
        if (check->good)
            fprintf(out, "shown to be good enough.\n");
        else if (check->more_known)
            fprintf(out, "ln E %.2f of %.2f, about %" PRIu64 " more requests.\n", check->log_e, check->needed,
                    check->more_requests);
        else
            fprintf(out, "ln E %.2f of %.2f; how many more requests cannot be said yet.\n", check->log_e,
                    check->needed);
    }
    for (int kind = 0; kind < ROLLOUT_FAILINGS; kind++)
        if (view->failing[kind][0] != '\0')
            fprintf(out, "%s\n", view->failing[kind]);
}

int cli_run_rollout_explain(const struct cli_call *call)
{
    struct cli_view view;
    json_t *answer;
    int code = ask(call, "", &answer);
    if (code == CLI_EXIT_OK && cli_given(call, "json"))
        cli_print_json(call->out, json_object_get(answer, "evidence"));
    else if (code == CLI_EXIT_OK && cli_view_read(answer, &view) == STATUS_OK)
        explain(call, &view, answer);
    if (code == CLI_EXIT_OK)
        json_decref(answer);
    return code;
}

static void print_decision(const struct cli_call *call, const json_t *decision)
{
    const json_t *verdict = json_object_get(decision, "verdict");
    const char *text = json_string_value(json_object_get(verdict, "text"));
    char date[32];
    struct text stamp = text_over(date, sizeof date);
    cli_date_write(json_integer_value(json_object_get(decision, "time_ms")), &stamp);
    fprintf(call->out, "%-20s %6" JSON_INTEGER_FORMAT "  run %" JSON_INTEGER_FORMAT "  %s -> %s  %g %%\n",
            date, json_integer_value(json_object_get(decision, "seq")),
            json_integer_value(json_object_get(decision, "run")), cli_word(decision, "from"),
            cli_word(decision, "to"), json_number_value(json_object_get(decision, "weight")) * 100);
    if (text != NULL)
        fprintf(call->out, "%s\n", cli_told(text));
    const char *failures = json_string_value(json_object_get(verdict, "failures"));
    if (failures != NULL)
        fprintf(call->out, "%s\n", cli_told(failures));
}

int cli_run_rollout_history(const struct cli_call *call)
{
    json_t *answer;
    int code = ask(call, "/history", &answer);
    if (code == CLI_EXIT_OK && cli_given(call, "json")) {
        cli_print_json(call->out, answer);
    } else if (code == CLI_EXIT_OK) {
        const json_t *list = json_object_get(answer, "decisions");
        json_int_t older = json_integer_value(json_object_get(answer, "older"));
        if (older > 0)
            fprintf(call->out, "(%" JSON_INTEGER_FORMAT " older decisions are in the journal)\n", older);
        for (size_t i = 0; i < json_array_size(list); i++)
            print_decision(call, json_array_get(list, i));
        if (json_array_size(list) == 0)
            fprintf(call->out, "Nothing has been decided yet.\n");
    }
    if (code == CLI_EXIT_OK)
        json_decref(answer);
    return code;
}
