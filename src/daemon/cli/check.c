// SPDX-License-Identifier: Apache-2.0
// `sluice check FILE`: validates, and prints for every rollout the requests and the time each stage needs.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/heap.h"
#include "base/utf8.h"
#include "daemon/cli/check_route.h"
#include "daemon/cli/client.h"
#include "daemon/cli/shown.h"
#include "daemon/cli/view.h"
#include "daemon/config/config.h"
#include "flags/runtime/runtime.h"
#include "ship/rollout/plan.h"
#include "ship/routing/routing.h"

struct check_traffic {
    double rate; // 0: unknown
    double error_rate;
    bool measured; // by the running daemon
};

static void write_requests(double requests, struct text *out)
{
    if (!isfinite(requests))
        text_add(out, SLICE("never"));
    else if (requests <= 0)
        text_add(out, SLICE("-"));
    else if (requests < 1e5)
        text_addf(out, "%.0f", ceil(requests / 10) * 10);
    else if (requests < 1e6)
        text_addf(out, "%.0f k", requests / 1e3);
    else
        text_addf(out, "%.1f M", requests / 1e6);
}

static void write_time(double ms, struct text *out)
{
    if (!isfinite(ms))
        text_add(out, SLICE("never"));
    else if (ms <= 0)
        text_add(out, SLICE("?"));
    else
        cli_span_write((int64_t)ms, out);
}

static void print_stage(FILE *out, const struct rollout_plan_stage *stage, uint32_t number)
{
    if (stage->kind == ROLLOUT_STAGE_APPROVE) {
        fprintf(out, "  %2u  approval by a person\n", number);
        return;
    }
    if (stage->kind == ROLLOUT_STAGE_SEGMENT) {
        char time[48];
        struct text text = text_over(time, sizeof time);
        write_time(stage->promote_ms, &text);
        fprintf(out, "  %2u  a segment gets it, for %s, without a comparison\n", number, time);
        return;
    }
    bool shadow = stage->kind == ROLLOUT_STAGE_SHADOW;
    char promote[48], promote_time[48], errors[48], latency[48], weight[16];
    struct text text = text_over(promote, sizeof promote);
    write_requests(stage->promote, &text);
    text = text_over(promote_time, sizeof promote_time);
    write_time(stage->promote_ms, &text);
    text = text_over(errors, sizeof errors);
    write_time(stage->detect_errors_ms, &text);
    text = text_over(latency, sizeof latency);
    write_time(stage->detect_latency_ms, &text);
    bool full = stage->weight == ROLLOUT_WEIGHT_FULL;
    snprintf(weight, sizeof weight, "%7g%%", stage->weight / 1000.0);
    fprintf(out, "  %2u  %8s  %10s %14s  %14s %14s%s\n", number, shadow ? "shadow" : weight,
            full ? "soak" : promote, promote_time, full ? "watched" : errors, full ? "watched" : latency,
            stage->beyond_horizon ? "   beyond its horizon: expect \"undecided\"" : "");
}

// What a stage in the shadow would see.
static void print_shadow(FILE *out, const struct rollout_spec *spec, const struct rollout_plan *plan)
{
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rollout_plan_stage *stage = &plan->stages[i];
        if (stage->kind != ROLLOUT_STAGE_SHADOW)
            continue;
        fprintf(out, "  in the shadow %s gets copies of %g%% of the requests, and nobody its answers; ",
                cli_shown(spec->to), spec->stages[i].shadow.share / 1000.0);
        if (stage->found <= 1)
            fprintf(out, "a path that is wrong in %.2g%% of the answers is found (95%% sure)\n",
                    stage->found * 100);
        else
            fprintf(out, "too few are asked three times to find anything: raise `compared` or `secondary`\n");
    }
}

// In the words of who pays: what one step may cost, how sure, and what counts as worse at all.
static void print_rule(FILE *out, const struct rollout_spec *spec, double error_rate)
{
    if (spec->errors.on && spec->errors.prove == ROLLOUT_PROVE_BUDGET) {
        double budget = spec->errors.budget > 0.5 * error_rate ? spec->errors.budget : 0.5 * error_rate;
        fprintf(out, "  a step may cost at most %g%% of all requests as errors", budget * 100);
        if (spec->latency.on)
            fprintf(out, ", %g%% as slow ones", spec->latency.budget * 100);
        fprintf(out, ", %g%% sure\n", 100 * (1 - spec->beta));
    }
    fprintf(out, "  taken back:");
    if (spec->errors.on)
        fprintf(out, " errors above %g x and %g%%", spec->errors.worse, spec->errors.floor * 100);
    if (spec->latency.on)
        fprintf(out, "%s more than %g x as slow", spec->errors.on ? ";" : "", spec->latency.worse);
    if (spec->statuses.on)
        fprintf(out, "; 3xx or 4xx above %g x and %g%%", spec->statuses.worse, spec->statuses.floor * 100);
    fprintf(out, "; of equal versions at most %g%%\n", spec->alpha * 100);
    if (spec->errors.on && spec->outage > 0)
        fprintf(out, "  and at once when more than %g%% fail in each of three seconds (a trigger, no test)\n",
                spec->outage * 100);
}

static void print_plan(FILE *out, const struct rollout_spec *spec, const struct check_traffic *traffic)
{
    if (strcmp(spec->from, spec->to) == 0) {
        fprintf(out, "\nrollout %s: version %s of service %s is stable already; there is nothing to ship\n",
                spec->name, cli_shown(spec->to), cli_shown(spec->service));
        return;
    }
    struct rollout_plan_traffic input = {.requests_per_second = traffic->rate,
                                         .error_rate = traffic->error_rate,
                                         .slowdown = 1.5,
                                         .latency_sigma = 1};
    struct rollout_plan plan;
    rollout_plan_make(spec, &input, &plan);
    bool of_flag = spec->target == ROLLOUT_TARGET_FLAG;
    fprintf(out, "\nrollout %s: %s %s, %s to %s", spec->name, of_flag ? "flag" : "service",
            cli_shown(of_flag ? spec->flag : spec->service), cli_shown(spec->from), cli_shown(spec->to));
    if (of_flag)
        fprintf(out, "; evidence from %s%s", spec->source == ROLLOUT_SOURCE_REQUESTS ? "service " : "events",
                spec->service);
    fputc('\n', out);
    if (traffic->rate > 0)
        fprintf(out, "  at %.0f requests per second with %.3g %% errors%s\n", traffic->rate,
                traffic->error_rate * 100, traffic->measured ? ", as the running daemon measures" : "");
    else
        fprintf(out, "  traffic unknown: --rate N says how long it takes (errors taken as %.3g %%)\n",
                traffic->error_rate * 100);
    print_rule(out, spec, traffic->error_rate);
    fprintf(out, "               good version goes on after         taken back after\n");
    fprintf(out, "        weight    requests           time    1%% more errors     50%% slower\n");
    for (uint32_t i = 0; i < plan.stage_count; i++)
        print_stage(out, &plan.stages[i], i + 1);
    print_shadow(out, spec, &plan);
    uint32_t last = spec->stages[spec->stage_count - 1].weight;
    if (spec->stages[spec->stage_count - 1].kind == ROLLOUT_STAGE_WEIGHT && last < ROLLOUT_WEIGHT_FULL)
        fprintf(
            out,
            "  WARNING: it ends at %g%%: that share stays on %s, which nobody watches any more and which does "
            "not become stable\n",
            last / 1000.0, cli_shown(spec->to));
    if (!isfinite(plan.rate_least))
        fprintf(out, "  WARNING: a stage cannot pass at any traffic; see the table\n");
    else if (plan.promote_ms <= 0 || plan.rate_least > traffic->rate)
        fprintf(out, "  %severy stage passes within its horizon from %.0f requests per second\n",
                traffic->rate > 0 ? "WARNING: it will be held undecided; " : "", ceil(plan.rate_least));
    if (plan.promote_ms <= 0)
        return;
    char total[48];
    struct text text = text_over(total, sizeof total);
    write_time(plan.promote_ms, &text);
    fprintf(out, "  in all about %s for a version as good as %s%s\n", total, cli_shown(spec->from),
            spec->latency.on ? ", after the baseline has been measured" : "");
}

// Asks the daemon of the file's own admin address how it stands; silence is no failure.
static void ask_status(const struct cli_call *call, const struct config *config, json_t **status)
{
    *status = NULL;
    if (cli_given(call, "no-ask"))
        return;
    const char *admin = cli_given(call, "admin") ? cli_value(call, "admin") : config->admin.text;
    struct cli_client *client = cli_client_open(admin);
    unsigned http;
    if (client == NULL)
        return;
    if (cli_client_get(client, "/v1/status", &http, status) != STATUS_OK)
        *status = NULL;
    cli_client_close(client);
}

// Of the running daemon; NULL: it has none of that name, or did not answer.
static const json_t *service_of(const json_t *status, const char *service)
{
    const json_t *services = json_object_get(status, "services");
    for (size_t i = 0; i < json_array_size(services); i++)
        if (strcmp(cli_word(json_array_get(services, i), "name"), service) == 0)
            return json_array_get(services, i);
    return NULL;
}

static void measured_of(const json_t *status, const char *service, struct check_traffic *traffic)
{
    const json_t *entry = service_of(status, service);
    double rate = json_number_value(json_object_get(entry, "requests_per_second"));
    if (!(rate > 0))
        return;
    *traffic = (struct check_traffic){.rate = rate,
                                      .error_rate = json_number_value(json_object_get(entry, "error_rate")),
                                      .measured = true};
}

// Which version this file would leave stable, where a rollout of the running daemon moved it, or where the
// file would move it; and what its rollout comes from then.
static void print_stable(FILE *out, const json_t *status, struct config *config, uint32_t index)
{
    const struct config_service *service = &config->services[index];
    const json_t *running = service_of(status, service->name);
    if (running == NULL)
        return;
    char stable[CONFIG_NAME_BYTES], storage[512];
    utf8_copy(stable, sizeof stable, slice_of(cli_word(running, "stable")));
    struct text text = text_over(storage, sizeof storage);
    bool same_word = strcmp(cli_word(running, "stable_in_file"), service->stable) == 0;
    if (same_word && config_version_find(service, stable) != NULL) {
        if (cli_view_stable(running, &text))
            fprintf(out, "%s\n", storage);
        for (uint32_t i = 0; i < config->rollout_count; i++) {
            struct rollout_spec *spec = &config->rollouts[i].spec;
            if (spec->target == ROLLOUT_TARGET_VERSION && strcmp(spec->service, service->name) == 0)
                memcpy(spec->from, stable, sizeof spec->from);
        }
    } else if (strcmp(stable, service->stable) != 0) {
        fprintf(out, "WARNING: service %s: this file moves its traffic from %s to %s\n", service->name,
                stable, service->stable);
    }
}

// Where it is not the default.
static void print_errors(FILE *out, const struct config_service *service)
{
    char line[CONFIG_ERROR_LINE_BYTES];
    struct text text = text_over(line, sizeof line);
    if (!service->errors.given)
        return;
    config_service_errors_write(&service->errors, &text);
    fprintf(out, "service %s: an error is ", service->name);
    cli_print_told(out, line);
    fputc('\n', out);
}

static enum status read_error_rate(const struct cli_call *call, double *error_rate)
{
    const char *text = cli_value(call, "error-rate");
    uint32_t weight;
    if (text == NULL)
        return STATUS_OK;
    if (config_parse_weight(slice_of(text), &weight) != STATUS_OK) {
        fprintf(call->err, "sluice check: --error-rate wants a share such as 0.2%%, not \"%s\"\n", text);
        return STATUS_INVALID;
    }
    *error_rate = (double)weight / ROLLOUT_WEIGHT_FULL;
    return STATUS_OK;
}

// What the file says of flags is read as at a start; addresses are left to the daemon.
static bool check_flags(const struct cli_call *call, const struct config *config,
                        struct runtime_report *report)
{
    enum status status = runtime_check(config, report);
    for (uint32_t i = 0; i < report->problem_count; i++)
        fprintf(call->err, "%s%s\n", report->problems[i].status != STATUS_OK ? "" : "warning: ",
                cli_shown(report->problems[i].text));
    if (status != STATUS_OK && report->problem_count == 0)
        fprintf(call->err, "sluice check: the flags cannot be read: %s\n", status_name(status));
    return status == STATUS_OK;
}

// Files with endpoints change without this file: one that is not there yet is no mistake of it.
static bool check_lists(const struct cli_call *call, const struct config *config,
                        struct config_errors *errors, char *report)
{
    bool good = true;
    for (uint32_t i = 0; i < config->service_count; i++)
        for (uint32_t k = 0; k < config->services[i].version_count; k++) {
            const struct config_version *version = &config->services[i].versions[k];
            struct config_endpoint *endpoints = NULL;
            uint32_t count;
            if (version->endpoints_file[0] == '\0')
                continue;
            enum status status = config_endpoints_load(config, version, &endpoints, &count, errors);
            heap_free(endpoints);
            if (status == STATUS_NOT_FOUND) {
                fprintf(call->err, "warning: %s is not there yet: without it version %s has no endpoint\n",
                        cli_shown(version->endpoints_file), version->name);
            } else if (status != STATUS_OK) {
                struct text text = text_over(report, CONFIG_REPORT_BYTES_MAX);
                config_errors_write(errors, &text);
                cli_print_report(call->err, report);
                good = false;
            }
        }
    return good;
}

static int print_all(const struct cli_call *call, struct config *config)
{
    struct check_traffic given = {.error_rate = 0.001};
    if (cli_value_number(call, "rate", 0, &given.rate) != STATUS_OK ||
        read_error_rate(call, &given.error_rate) != STATUS_OK)
        return CLI_EXIT_USAGE;
    for (uint32_t i = 0; i < config->note_count; i++)
        fprintf(call->err, "warning: %s\n", cli_shown(config->notes[i]));
    struct runtime_report *flags = heap_alloc(1, sizeof *flags);
    if (config->flags.given && (flags == NULL || !check_flags(call, config, flags))) {
        heap_free(flags);
        return CLI_EXIT_NO;
    }
    fprintf(call->out, "%s is valid: %u service%s, %u rollout%s", call->args[0], config->service_count,
            config->service_count == 1 ? "" : "s", config->rollout_count,
            config->rollout_count == 1 ? "" : "s");
    if (config->flags.given)
        fprintf(call->out, ", %u flag%s from %u source%s%s", flags->flags, flags->flags == 1 ? "" : "s",
                flags->sources, flags->sources == 1 ? "" : "s",
                flags->left_out > 0 ? " (what is fetched from addresses was not asked)" : "");
    fputc('\n', call->out);
    heap_free(flags);
    json_t *status = NULL;
    if (config->service_count > 0)
        ask_status(call, config, &status);
    for (uint32_t i = 0; i < config->service_count; i++)
        print_errors(call->out, &config->services[i]);
    for (uint32_t i = 0; i < config->service_count; i++)
        print_stable(call->out, status, config, i);
    for (uint32_t i = 0; i < config->rollout_count; i++) {
        struct check_traffic traffic = given;
        if (given.rate <= 0)
            measured_of(status, config->rollouts[i].spec.service, &traffic);
        if (cli_given(call, "error-rate"))
            traffic.error_rate = given.error_rate;
        print_plan(call->out, &config->rollouts[i].spec, &traffic);
    }
    json_decref(status);
    return CLI_EXIT_OK;
}

int cli_run_check(const struct cli_call *call)
{
    struct config_errors *errors = heap_alloc(1, sizeof *errors);
    char *report = heap_alloc(1, CONFIG_REPORT_BYTES_MAX);
    struct config *config = NULL;
    int code = CLI_EXIT_UNREADABLE;
    if (errors != NULL && report != NULL) {
        enum status status = config_load(call->args[0], &config, errors);
        struct fault fault;
        if (status == STATUS_OK && routing_tls_check(config, &fault) != STATUS_OK) {
            fprintf(call->err, "%s: %s\n", cli_shown(call->args[0]), cli_told(fault.text));
            code = CLI_EXIT_NO;
        } else if (status == STATUS_OK && !check_lists(call, config, errors, report)) {
            code = CLI_EXIT_NO;
        } else if (status == STATUS_OK && cli_given(call, "route")) {
            code = cli_check_route(call, config);
        } else if (status == STATUS_OK) {
            code = print_all(call, config);
        } else {
            struct text text = text_over(report, CONFIG_REPORT_BYTES_MAX);
            config_errors_write(errors, &text);
            cli_print_report(call->err, report);
            code = status == STATUS_INVALID ? CLI_EXIT_NO : CLI_EXIT_UNREADABLE;
        }
    }
    config_destroy(config);
    heap_free(errors);
    heap_free(report);
    return code;
}
