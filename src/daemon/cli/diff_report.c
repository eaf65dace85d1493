// SPDX-License-Identifier: Apache-2.0
// `sluice diff NAME`: how the answers of mirrored requests differ, in a developer's words.
#include <string.h>

#include "daemon/cli/diff.h"
#include "daemon/cli/flag.h"

enum { NOISY_SHOWN = 12, LIMIT_SHOWN = 40 };

static uint64_t number_of(const json_t *object, const char *name)
{
    json_int_t number = json_integer_value(json_object_get(object, name));
    return number > 0 ? (uint64_t)number : 0;
}

static void print_count(FILE *out, uint64_t count)
{
    char digits[32];
    struct text text = text_over(digits, sizeof digits);
    text_add_count(&text, count);
    fputs(digits, out);
}

// "12 timeout, 3 reset"; answered ones are none of them.
static void print_reasons(FILE *out, const json_t *reasons, const char *skip)
{
    const char *name, *between = "";
    const json_t *count;
    json_object_foreach((json_t *)(uintptr_t)reasons, name, count)
    {
        if (json_integer_value(count) <= 0 || strcmp(name, skip) == 0)
            continue;
        fputs(between, out);
        print_count(out, (uint64_t)json_integer_value(count));
        fprintf(out, " %s", cli_shown(name));
        between = ", ";
    }
}

static uint64_t sum_of(const json_t *reasons)
{
    const char *name;
    const json_t *count;
    uint64_t sum = 0;
    json_object_foreach((json_t *)(uintptr_t)reasons, name, count) sum += number_of(reasons, name);
    return sum;
}

static void print_counts(FILE *out, const json_t *report)
{
    const json_t *counts = json_object_get(report, "counts");
    const json_t *uncompared = json_object_get(counts, "uncompared");
    const json_t *rollout = json_object_get(report, "rollout");
    const char *primary = cli_word(report, "primary"), *candidate = cli_word(report, "candidate");
    fprintf(out, "%s: %s beside %s. ", cli_word(report, json_is_string(rollout) ? "rollout" : "service"),
            candidate, primary);
    print_count(out, number_of(counts, "compared"));
    fprintf(out, " of ");
    print_count(out, number_of(counts, "sent"));
    fprintf(out, " mirrored requests compared; %s was asked twice for ", primary);
    print_count(out, number_of(counts, "with_secondary"));
    fprintf(out, ".\n");
    if (sum_of(uncompared) > 0) {
        fprintf(out, "Not compared: ");
        print_reasons(out, uncompared, "");
        if (number_of(uncompared, "candidate_failed") > 0) {
            fprintf(out, " (%s: ", candidate);
            print_reasons(out, json_object_get(counts, "candidate_ends"), "answered");
            fputc(')', out);
        }
        fprintf(out, ".\n");
    }
    fprintf(out, "Errors: %s ", candidate);
    print_count(out, number_of(counts, "candidate_errors"));
    fprintf(out, ", %s ", primary);
    print_count(out, number_of(counts, "primary_errors"));
    fprintf(out, ".\n");
}

static void print_side(FILE *out, const char *version, const json_t *side)
{
    const char *value = cli_word(side, "value");
    fprintf(out, "      %s: %s  (status %u, ", version, value[0] != '\0' ? value : "nothing",
            (unsigned)number_of(side, "status"));
    print_count(out, number_of(side, "body_bytes"));
    fprintf(out, " bytes, %.1f ms)\n", (double)number_of(side, "wait_us") / 1e3);
}

static void print_examples(FILE *out, const json_t *report, const json_t *row)
{
    size_t i;
    const json_t *example;
    json_array_foreach(json_object_get(row, "examples"), i, example)
    {
        const char *place = cli_word(example, "place");
        fprintf(out, "    %s %s%s%s\n", cli_word(example, "method"), cli_word(example, "target"),
                place[0] != '\0' ? ", at item " : "", place);
        print_side(out, cli_word(report, "primary"), json_object_get(example, "primary"));
        print_side(out, cli_word(report, "candidate"), json_object_get(example, "candidate"));
    }
}

// The rows of one verdict. Returns how many there are.
static uint64_t print_rows(FILE *out, const json_t *report, const char *verdict, const char *title,
                           bool examples)
{
    uint64_t count = 0;
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(report, "rows"), i, row)
    {
        if (strcmp(cli_word(row, "verdict"), verdict) != 0)
            continue;
        if (count++ == 0)
            fprintf(out, "\n%s\n", title);
        if (count > LIMIT_SHOWN)
            continue;
        fprintf(out, "  %s\n", cli_told(cli_word(row, "words")));
        if (examples)
            print_examples(out, report, row);
    }
    if (count > LIMIT_SHOWN)
        fprintf(out, "  and %llu more; --path PATH tells of some, --json of all\n",
                (unsigned long long)(count - LIMIT_SHOWN));
    return count;
}

static void print_noisy(FILE *out, const json_t *report)
{
    uint64_t count = 0;
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(report, "rows"), i, row)
    {
        if (strcmp(cli_word(row, "verdict"), "noisy") != 0)
            continue;
        if (count < NOISY_SHOWN)
            fprintf(out, "%s%s",
                    count == 0 ? "\nNoise, because the old version differs from itself as well: " : ", ",
                    cli_word(row, "path"));
        count++;
    }
    if (count > NOISY_SHOWN)
        fprintf(out, ", and %llu more", (unsigned long long)(count - NOISY_SHOWN));
    if (count > 0)
        fprintf(out, ".\n");
}

static void print_report(FILE *out, const json_t *report, bool whole, bool examples)
{
    print_counts(out, report);
    (void)print_rows(out, report, "different", "Different:", examples);
    (void)print_rows(out, report, "undecided", "Not told from chance yet:", examples);
    if (whole)
        (void)print_rows(out, report, "noisy", "Noise:", examples);
    else
        print_noisy(out, report);
}

int diff_tell_report(const struct cli_call *call, const json_t *report)
{
    const json_t *paths = json_object_get(report, "paths");
    bool json = cli_given(call, "json");
    if (json)
        cli_print_json(call->out, report);
    else
        print_report(call->out, report, cli_given(call, "path"), cli_given(call, "examples"));
    if (number_of(json_object_get(report, "counts"), "compared") == 0) {
        fprintf(call->err, "sluice: nothing was compared yet\n");
        return CLI_EXIT_UNREADABLE;
    }
    if (!json && sum_of(paths) == 0)
        fprintf(call->out, "No difference.\n");
    return number_of(paths, "different") > 0 ? CLI_EXIT_NO : CLI_EXIT_OK;
}

// A name may be a rollout's or a service's; a rollout that is not in the shadow may ship a service that is
// mirrored.
static int get_report(const struct cli_call *call, struct cli_client *client, json_t **report)
{
    static const char *const starts[] = {"/v1/rollouts/", "/v1/services/"};
    char path[FLAG_PATH_BYTES], tail[FLAG_PATH_BYTES];
    const char *only = cli_value(call, "path");
    for (int i = 0;; i++) {
        unsigned http = 0;
        flag_after_path(starts[i], call->args[0], path);
        struct text text = text_over(tail, sizeof tail);
        text_addf(&text, "%s/diff%s", path, only != NULL ? "?path=" : "");
        if (only != NULL)
            flag_after_path(tail, only, path);
        else
            memcpy(path, tail, sizeof path);
        if (i == 1) {
            int code = cli_get(call, client, path, report);
            return code == CLI_EXIT_NO ? CLI_EXIT_UNREADABLE : code;
        }
        enum status status = cli_client_get(client, path, &http, report);
        if (status != STATUS_OK)
            return cli_say_unreachable(call, client, status);
        if (http == 200)
            return CLI_EXIT_OK;
        json_decref(*report);
        *report = NULL;
    }
}

int diff_show(const struct cli_call *call)
{
    struct cli_client *client;
    json_t *report = NULL;
    int code = cli_client_of(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    code = get_report(call, client, &report);
    if (code == CLI_EXIT_OK)
        code = diff_tell_report(call, report);
    json_decref(report);
    cli_client_close(client);
    return code;
}
