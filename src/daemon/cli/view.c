// SPDX-License-Identifier: Apache-2.0
// Reading and drawing a rollout. Every piece of a line goes through put(), which counts columns and cuts at
// the edge, so no line ever wraps and colours never reach a stream that did not ask for them.
#include "daemon/cli/view.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"
#include "daemon/cli/shown.h"

// ---- reading ----

// What the view holds is ready to be printed.
static void read_string(const json_t *object, const char *key, char *out, size_t cap)
{
    utf8_copy(out, cap, slice_of(cli_word(object, key)));
}

static double read_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : 0.0;
}

static uint64_t read_count(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static void read_arm(const json_t *json, struct cli_view_arm *arm)
{
    static const char *const quantiles[CLI_VIEW_QUANTILES] = {"p50", "p90", "p99", "p999"};
    arm->present = json_is_object(json);
    read_string(json, "version", arm->version, sizeof arm->version);
    arm->requests = read_count(json, "requests");
    arm->errors = read_count(json, "errors");
    arm->error_rate = read_number(json, "error_rate");
    arm->per_second = read_number(json, "requests_per_second");
    arm->share = read_number(json, "share");
    const json_t *latency = json_object_get(json, "latency_ms");
    arm->has_latency = read_count(latency, "count") > 0;
    for (int i = 0; i < CLI_VIEW_QUANTILES; i++)
        arm->ms[i] = read_number(latency, quantiles[i]);
}

static void read_stages(const json_t *json, struct cli_view *view)
{
    const json_t *list = json_object_get(json, "stages");
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count && i < ROLLOUT_STAGES_MAX; i++) {
        const json_t *stage = json_array_get(list, i);
        const char *kind = json_string_value(json_object_get(stage, "kind"));
        bool approve = kind != NULL && strcmp(kind, "approve") == 0;
        view->stage_shadows[i] = kind != NULL && strcmp(kind, "shadow") == 0;
        read_string(stage, "segment", view->stage_rings[i], sizeof view->stage_rings[i]);
        view->stage_weights[i] = approve ? -1.0 : read_number(stage, "weight");
        if (i + 1 == view->stage)
            view->stage_for_ms = read_count(stage, "soak_ms") > read_count(stage, "for_ms")
                                     ? read_count(stage, "soak_ms")
                                     : read_count(stage, "for_ms");
    }
    view->stage_count = (uint32_t)(count < ROLLOUT_STAGES_MAX ? count : ROLLOUT_STAGES_MAX);
}

static void read_shadow(const json_t *json, struct cli_view_shadow *shadow)
{
    *shadow = (struct cli_view_shadow){
        .has_been = json_is_object(json),
        .on = json_is_true(json_object_get(json, "on")),
        .sent = read_count(json, "sent"),
        .compared = read_count(json, "compared"),
        .needed = read_count(json, "compared_needed"),
        .triples = read_count(json, "asked_three_times"),
        .candidate_errors = read_count(json, "candidate_errors"),
        .primary_errors = read_count(json, "primary_errors"),
        .paths = read_count(json, "paths"),
        .different = read_count(json, "paths_different"),
        .suspected = read_count(json, "paths_suspected"),
        .found = read_number(json, "found_share"),
    };
}

static void read_told(const json_t *json, const char *name, char *to, size_t cap)
{
    const char *text = json_string_value(json_object_get(json, name));
    utf8_copy(to, cap, slice_of(cli_told(text != NULL ? text : "")));
}

static void read_evidence(const json_t *evidence, struct cli_view *view)
{
    const json_t *rollback = json_object_get(evidence, "rollback");
    view->bad = read_number(rollback, "log_e");
    view->bad_needed = read_number(rollback, "log_e_needed");
    view->blocked = json_is_true(json_object_get(json_object_get(evidence, "sample_ratio"), "blocked"));
    view->edge_requests = read_count(json_object_get(evidence, "edges_ms"), "requests");
    const json_t *checks = json_object_get(evidence, "checks");
    for (size_t i = 0; i < json_array_size(checks) && i < CLI_VIEW_CHECKS; i++) {
        const json_t *json = json_array_get(checks, i);
        struct cli_view_check *check = &view->checks[view->check_count++];
        read_string(json, "name", check->name, sizeof check->name);
        check->log_e = read_number(json, "log_e_good");
        check->needed = read_number(json, "log_e_good_needed");
        check->good = json_is_true(json_object_get(json, "good"));
        check->more_known = json_is_integer(json_object_get(json, "more_requests"));
        check->more_requests = read_count(json, "more_requests");
    }
}

enum status cli_view_read(const json_t *json, struct cli_view *view)
{
    memset(view, 0, sizeof *view);
    read_string(json, "name", view->name, sizeof view->name);
    read_string(json, "state", view->state, sizeof view->state);
    if (view->name[0] == '\0' || view->state[0] == '\0')
        return STATUS_INVALID;
    // What is rolled out: a version of a service, or a variant of a flag.
    bool of_flag = json_is_string(json_object_get(json, "flag"));
    if (of_flag)
        memcpy(view->service, "flag ", 5);
    read_string(json, of_flag ? "flag" : "service", view->service + (of_flag ? 5 : 0),
                sizeof view->service - (of_flag ? 5 : 0));
    read_string(json, "from", view->from, sizeof view->from);
    read_string(json, "to", view->to, sizeof view->to);
    view->run = (uint32_t)read_count(json, "run");
    view->stage = (uint32_t)read_count(json, "stage");
    read_stages(json, view);
    const json_t *weight = json_object_get(json, "weight");
    view->wanted = read_number(weight, "wanted");
    view->has_measured = json_is_number(json_object_get(weight, "measured"));
    view->measured = read_number(weight, "measured");
    view->stage_requests = read_count(weight, "stage_requests");
    view->started_ms = (int64_t)read_count(json, "started_ms");
    view->stage_since_ms = (int64_t)read_count(json, "stage_since_ms");
    view->state_since_ms = (int64_t)read_count(json, "state_since_ms");
    const json_t *arms = json_object_get(json, "arms");
    read_arm(json_object_get(arms, "stable"), &view->arms[ROLLOUT_ARM_STABLE]);
    read_arm(json_object_get(arms, "canary"), &view->arms[ROLLOUT_ARM_CANARY]);
    read_arm(json_object_get(arms, "control"), &view->arms[ROLLOUT_ARM_CONTROL]);
    read_shadow(json_object_get(json, "shadow"), &view->shadow);
    read_evidence(json_object_get(json, "evidence"), view);
    const json_t *verdict = json_object_get(json, "verdict");
    view->has_verdict = json_is_object(verdict);
    read_string(verdict, "outcome", view->outcome, sizeof view->outcome);
    read_told(verdict, "text", view->verdict, sizeof view->verdict);
    read_told(verdict, "failures", view->failures, sizeof view->failures);
    const json_t *failures = json_object_get(json, "failures");
    for (int kind = 0; kind < ROLLOUT_FAILINGS; kind++)
        read_told(json_object_get(failures, rollout_failing_name(kind)), "text", view->failing[kind],
                  sizeof view->failing[kind]);
    view->verdict_ms = (int64_t)read_count(verdict, "time_ms");
    view->warmup_ms = read_count(json, "warmup_ms");
    view->in_file = json_is_true(json_object_get(json, "in_file"));
    view->file_differs = json_is_true(json_object_get(json, "file_differs"));
    return STATUS_OK;
}

static bool state_is(const struct cli_view *view, enum rollout_state state)
{
    return strcmp(view->state, rollout_state_name(state)) == 0;
}

bool cli_view_final(const struct cli_view *view)
{
    return state_is(view, ROLLOUT_COMPLETED) || state_is(view, ROLLOUT_ROLLED_BACK);
}

bool cli_view_waits(const struct cli_view *view)
{
    return state_is(view, ROLLOUT_UNDECIDED) || state_is(view, ROLLOUT_PAUSED) ||
           state_is(view, ROLLOUT_AWAITING_APPROVAL) || (view->blocked && !cli_view_final(view));
}

// ---- small texts ----

int64_t cli_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void cli_clock_write(int64_t wall_ms, struct text *out)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    localtime_r(&seconds, &parts);
    text_addf(out, "%02d:%02d:%02d", parts.tm_hour, parts.tm_min, parts.tm_sec);
}

void cli_date_write(int64_t wall_ms, struct text *out)
{
    char date[16];
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    localtime_r(&seconds, &parts);
    strftime(date, sizeof date, "%Y-%m-%d ", &parts);
    text_addf(out, "%s", date);
    cli_clock_write(wall_ms, out);
}

bool cli_view_stable(const json_t *service, struct text *out)
{
    const json_t *by = json_object_get(service, "stable_by");
    if (!json_is_object(by))
        return false;
    text_addf(out, "service %s: stable: %s in the file; %s since ", cli_word(service, "name"),
              cli_word(service, "stable_in_file"), cli_word(service, "stable"));
    cli_date_write((int64_t)read_count(by, "since_ms"), out);
    text_addf(out, ", %s rollout %s",
              json_is_true(json_object_get(by, "undone")) ? "by the undo of" : "promoted by",
              cli_word(by, "rollout"));
    return true;
}

void cli_span_write(int64_t ms, struct text *out)
{
    int64_t s = ms > 0 ? ms / 1000 : 0;
    if (s < 60)
        text_addf(out, "%" PRId64 " s", s);
    else if (s < 3600)
        text_addf(out, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else if (s < 86400)
        text_addf(out, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
    else
        text_addf(out, "%" PRId64 " d %" PRId64 " h", s / 86400, s / 3600 % 24);
}

struct cli_style cli_style_of(FILE *out)
{
    struct cli_style style = {.columns = 80, .rows = 24};
    struct winsize size;
    bool terminal = isatty(fileno(out)) == 1;
    if (terminal && ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
        style.columns = size.ws_col;
        style.rows = size.ws_row;
    }
    const char *no_colour = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    style.colour = terminal && (no_colour == NULL || no_colour[0] == '\0') &&
                   (term == NULL || strcmp(term, "dumb") != 0);
    static const char *const locales[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < 3; i++) {
        const char *locale = getenv(locales[i]);
        if (locale == NULL || locale[0] == '\0')
            continue;
        style.utf8 = strstr(locale, "UTF-8") != NULL || strstr(locale, "utf8") != NULL ||
                     strstr(locale, "UTF8") != NULL || strstr(locale, "utf-8") != NULL;
        break;
    }
    return style;
}

// ---- drawing ----

enum paint { PAINT_NONE, PAINT_DIM, PAINT_BOLD, PAINT_GOOD, PAINT_WARN, PAINT_BAD };

struct canvas {
    struct text *out;
    const struct cli_style *style;
    uint32_t column;
    uint32_t row;
};

__attribute__((format(printf, 3, 4))) static void put(struct canvas *canvas, enum paint paint,
                                                      const char *format, ...)
{
    static const char *const codes[] = {"", "\033[2m", "\033[1m", "\033[32m", "\033[33m", "\033[31m"};
    char piece[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (canvas->row >= canvas->style->rows)
        return;
    bool coloured = paint != PAINT_NONE && canvas->style->colour;
    if (coloured)
        text_addf(canvas->out, "%s", codes[paint]);
    for (const char *p = piece; *p != '\0'; p++) {
        bool starts = ((unsigned char)*p & 0xc0) != 0x80;
        if (starts && canvas->column >= canvas->style->columns)
            break;
        canvas->column += starts ? 1 : 0;
        text_add_char(canvas->out, (unsigned char)*p < 0x20 ? ' ' : *p);
    }
    if (coloured)
        text_addf(canvas->out, "\033[0m");
}

static size_t columns_of(const char *text)
{
    size_t columns = 0;
    for (; *text != '\0'; text++)
        columns += ((unsigned char)*text & 0xc0) != 0x80;
    return columns;
}

// The text in so many columns; what is longer ends in an ellipsis.
static void fit(const char *text, size_t columns, bool utf8, char *out, size_t cap)
{
    struct text to = text_over(out, cap);
    bool whole = columns_of(text) <= columns;
    size_t at = 0, taken = 0;
    while (text[at] != '\0' && (whole || taken + 1 < columns)) {
        size_t len = 1;
        while (((unsigned char)text[at + len] & 0xc0) == 0x80)
            len++;
        text_add(&to, (struct slice){text + at, len});
        at += len;
        taken++;
    }
    if (!whole)
        text_add(&to, slice_of(utf8 ? "…" : "~"));
}

static void end_line(struct canvas *canvas)
{
    if (canvas->row < canvas->style->rows)
        text_add_char(canvas->out, '\n');
    canvas->row++;
    canvas->column = 0;
}

static void put_bar(struct canvas *canvas, double part, uint32_t width, enum paint paint)
{
    double clamped = part < 0 ? 0 : part > 1 ? 1 : part;
    uint32_t filled = (uint32_t)lround(clamped * width);
    if (filled == 0 && part > 0.001)
        filled = 1;
    for (uint32_t i = 0; i < width; i++)
        put(canvas, i < filled ? paint : PAINT_DIM, "%s",
            canvas->style->utf8 ? (i < filled ? "█" : "░") : (i < filled ? "#" : "."));
}

static enum paint paint_of_state(const struct cli_view *view)
{
    if (state_is(view, ROLLOUT_COMPLETED))
        return PAINT_GOOD;
    if (state_is(view, ROLLOUT_ROLLED_BACK) || state_is(view, ROLLOUT_ROLLING_BACK))
        return PAINT_BAD;
    return cli_view_waits(view) ? PAINT_WARN : PAINT_BOLD;
}

// State, stage and time have the right of way; the names before them are cut, or have a line of their own.
static void draw_title(struct canvas *canvas, const struct cli_view *view, int64_t now_ms)
{
    const char *arrow = canvas->style->utf8 ? "→" : "->";
    char storage[96], names[4 * ROLLOUT_NAME_BYTES + 16], cut[sizeof names];
    struct text text = text_over(storage, sizeof storage);
    if (view->started_ms > 0) {
        text_addf(&text, "   stage %u of %u, ", view->stage, view->stage_count);
        cli_span_write(now_ms - view->state_since_ms, &text);
    }
    if (view->run > 1)
        text_addf(&text, "   run %u", view->run);
    snprintf(names, sizeof names, "%s  %s %s %s %s", view->name, view->service, view->from, arrow, view->to);
    size_t columns = canvas->style->columns;
    bool one_line = columns_of(names) + strlen(view->state) + text.len + 4 <= columns;
    fit(names, columns > 2 ? columns - 1 : 1, canvas->style->utf8, cut, sizeof cut);
    put(canvas, PAINT_BOLD, " %s", cut);
    if (!one_line)
        end_line(canvas);
    put(canvas, paint_of_state(view), "%s%s", one_line ? "   " : " ", view->state);
    put(canvas, PAINT_NONE, "%s", storage);
    end_line(canvas);
    end_line(canvas);
}

static void draw_stages(struct canvas *canvas, const struct cli_view *view)
{
    put(canvas, PAINT_DIM, " stages    ");
    bool complete = state_is(view, ROLLOUT_COMPLETED);
    bool back = view->wanted <= 0 && (cli_view_final(view) || state_is(view, ROLLOUT_ROLLING_BACK));
    for (uint32_t i = 0; i < view->stage_count; i++) {
        bool here = view->started_ms > 0 && i + 1 == view->stage && !complete;
        bool past = view->started_ms > 0 && (i + 1 < view->stage || complete);
        enum paint paint = back ? PAINT_DIM : past ? PAINT_GOOD : here ? PAINT_BOLD : PAINT_DIM;
        if (i > 0)
            put(canvas, PAINT_DIM, "%s", canvas->style->utf8 ? " ─ " : " - ");
        const char *open = here ? "[" : "";
        const char *close = here ? "]" : "";
        if (view->stage_weights[i] < 0)
            put(canvas, paint, "%sapprove%s", open, close);
        else if (view->stage_rings[i][0] != '\0')
            put(canvas, paint, "%s(%s)%s", open, view->stage_rings[i], close);
        else if (view->stage_shadows[i])
            put(canvas, paint, "%sshadow%s", open, close);
        else
            put(canvas, paint, "%s%g%%%s", open, view->stage_weights[i] * 100, close);
    }
    end_line(canvas);
    end_line(canvas);
}

static uint32_t bar_width(const struct canvas *canvas)
{
    uint32_t columns = canvas->style->columns;
    return columns > 62 ? (columns - 50 < 50 ? columns - 50 : 50) : columns > 40 ? 8 : 4;
}

// Longer lines are broken at a blank rather than lost at the edge.
static void put_wrapped(struct canvas *canvas, enum paint paint, struct slice line)
{
    size_t room = canvas->style->columns > 12 ? canvas->style->columns - 2 : 10;
    while (line.len > room) {
        size_t cut = room;
        while (cut > 10 && line.data[cut] != ' ')
            cut--;
        put(canvas, paint, " %.*s", (int)cut, line.data);
        end_line(canvas);
        cut += line.data[cut] == ' ' ? 1 : 0;
        line = (struct slice){line.data + cut, line.len - cut};
    }
    put(canvas, paint, " %.*s", (int)line.len, line.data);
    end_line(canvas);
}

// The ring whose members have the new variant now; NULL: it is no ring's turn.
static const char *ring_of(const struct cli_view *view)
{
    if (!state_is(view, ROLLOUT_SEGMENT) || view->stage == 0 || view->stage > view->stage_count)
        return NULL;
    return view->stage_rings[view->stage - 1];
}

void cli_view_shadow(const struct cli_view *view, struct text *out)
{
    const struct cli_view_shadow *shadow = &view->shadow;
    text_add_count(out, shadow->compared);
    text_add(out, SLICE(" of "));
    text_add_count(out, shadow->needed);
    text_addf(
        out, " answers compared; %" PRIu64 " path%s not always the same, %" PRIu64 " differ%s beyond noise",
        shadow->paths, shadow->paths == 1 ? "" : "s", shadow->different, shadow->different == 1 ? "s" : "");
    if (shadow->suspected > 0)
        text_addf(out, ", %" PRIu64 " suspected", shadow->suspected);
    if (shadow->found > 0)
        text_addf(out, "; one wrong answer in %.3g would be found", 1 / shadow->found);
    if (shadow->candidate_errors + shadow->primary_errors > 0)
        text_addf(out, "; errors: %s %" PRIu64 ", %s %" PRIu64, view->to, shadow->candidate_errors,
                  view->from, shadow->primary_errors);
}

static void draw_shadow(struct canvas *canvas, const struct cli_view *view)
{
    const struct cli_view_shadow *shadow = &view->shadow;
    char storage[320];
    struct text text = text_over(storage, sizeof storage);
    put(canvas, PAINT_DIM, " shadow    ");
    put(canvas, PAINT_NONE, "compared %8" PRIu64 "    ", shadow->compared);
    put_bar(canvas, shadow->needed > 0 ? (double)shadow->compared / (double)shadow->needed : 0,
            bar_width(canvas), PAINT_BOLD);
    end_line(canvas);
    cli_view_shadow(view, &text);
    put_wrapped(canvas, shadow->different > 0 ? PAINT_BAD : PAINT_NONE, text_slice(&text));
    end_line(canvas);
}

static void draw_split(struct canvas *canvas, const struct cli_view *view)
{
    if (view->shadow.on) {
        draw_shadow(canvas, view);
        return;
    }
    const char *ring = ring_of(view);
    if (ring != NULL) {
        put(canvas, PAINT_DIM, " ring      ");
        put(canvas, PAINT_BOLD, "%s: its members have %s, all others %s", ring, view->to, view->from);
        end_line(canvas);
        end_line(canvas);
        return;
    }
    put(canvas, PAINT_DIM, " canary    ");
    put(canvas, PAINT_NONE, "wanted   %8.3f %%  ", view->wanted * 100);
    put_bar(canvas, view->wanted, bar_width(canvas), PAINT_BOLD);
    end_line(canvas);
    put(canvas, PAINT_DIM, "           ");
    if (view->has_measured) {
        put(canvas, PAINT_NONE, "measured %8.3f %%  ", view->measured * 100);
        put_bar(canvas, view->measured, bar_width(canvas), PAINT_BOLD);
    } else {
        put(canvas, PAINT_DIM, "measured        -");
    }
    end_line(canvas);
    end_line(canvas);
}

// Too narrow for all columns: rates of errors and latency stay.
static bool is_narrow(const struct canvas *canvas)
{
    return canvas->style->columns < 79;
}

static int quantiles_of(const struct canvas *canvas)
{
    return is_narrow(canvas) ? CLI_VIEW_QUANTILES - 1 : CLI_VIEW_QUANTILES;
}

static void draw_arm(struct canvas *canvas, const struct cli_view_arm *arm, const char *role)
{
    if (!arm->present)
        return;
    char count[32], errors[32];
    struct text text = text_over(count, sizeof count);
    text_add_count(&text, arm->requests);
    text = text_over(errors, sizeof errors);
    text_add_count(&text, arm->errors);
    char version[4 * ROLLOUT_NAME_BYTES];
    fit(arm->version, 10, canvas->style->utf8, version, sizeof version);
    put(canvas, PAINT_NONE, " %-7s %s%*s %9s ", role, version, 10 - (int)columns_of(version), "", count);
    if (!is_narrow(canvas))
        put(canvas, PAINT_NONE, "%8.1f %7s ", arm->per_second, errors);
    put(canvas, arm->errors > 0 ? PAINT_WARN : PAINT_NONE, "%6.2f%% ", arm->error_rate * 100);
    for (int i = 0; i < quantiles_of(canvas); i++) {
        if (arm->has_latency)
            put(canvas, PAINT_NONE, arm->ms[i] < 100 ? "%6.1f" : "%6.0f", arm->ms[i]);
        else
            put(canvas, PAINT_DIM, "     -");
    }
    end_line(canvas);
}

static void draw_arms(struct canvas *canvas, const struct cli_view *view)
{
    put(canvas, PAINT_DIM, " %-18s %9s ", "", "requests");
    if (!is_narrow(canvas))
        put(canvas, PAINT_DIM, "%8s %7s ", "per s", "errors");
    put(canvas, PAINT_DIM, "%7s ", is_narrow(canvas) ? "errors" : "rate");
    put(canvas, PAINT_DIM, "ms p50   p90   p99%s", is_narrow(canvas) ? "" : " p99.9");
    end_line(canvas);
    draw_arm(canvas, &view->arms[ROLLOUT_ARM_STABLE], "stable");
    draw_arm(canvas, &view->arms[ROLLOUT_ARM_CANARY], "canary");
    draw_arm(canvas, &view->arms[ROLLOUT_ARM_CONTROL], "control");
    end_line(canvas);
}

static double per_second_all(const struct cli_view *view)
{
    double sum = 0;
    for (int i = 0; i < ROLLOUT_ARMS; i++)
        sum += view->arms[i].per_second;
    return sum;
}

static void write_more(const struct cli_view *view, const struct cli_view_check *check, struct text *out)
{
    if (check->good) {
        text_add(out, SLICE("shown to be good enough"));
        return;
    }
    if (!check->more_known) {
        text_add(out, SLICE("cannot say yet how much more"));
        return;
    }
    text_add(out, SLICE("about "));
    text_add_count(out, check->more_requests);
    text_add(out, SLICE(" more"));
    double rate = per_second_all(view);
    if (rate < 0.1)
        return;
    text_add(out, SLICE(", "));
    cli_span_write((int64_t)((double)check->more_requests / rate * 1000) + 999, out);
}

static double part_of(double log_e, double needed)
{
    return needed > 0 && log_e > 0 ? log_e / needed : 0;
}

static void draw_evidence(struct canvas *canvas, const struct cli_view *view)
{
    uint32_t width = bar_width(canvas) < 28 ? bar_width(canvas) : 28;
    double bad = part_of(view->bad, view->bad_needed);
    put(canvas, PAINT_DIM, " roll back ");
    put(canvas, PAINT_NONE, "%-11s", "");
    put_bar(canvas, bad, width, bad > 0.5 ? PAINT_BAD : PAINT_WARN);
    put(canvas, PAINT_NONE, " ln E %.1f of %.1f", view->bad, view->bad_needed);
    end_line(canvas);
    for (uint32_t i = 0; i < view->check_count; i++) {
        const struct cli_view_check *check = &view->checks[i];
        char storage[96];
        struct text text = text_over(storage, sizeof storage);
        write_more(view, check, &text);
        put(canvas, PAINT_DIM, "%s", i == 0 ? " promote   " : "           ");
        put(canvas, PAINT_NONE, "%-11s", check->name);
        put_bar(canvas, check->good ? 1 : part_of(check->log_e, check->needed), width, PAINT_GOOD);
        put(canvas, check->good ? PAINT_GOOD : PAINT_NONE, " %s", storage);
        end_line(canvas);
    }
    if (view->blocked) {
        put(canvas, PAINT_BAD, " The split is not what it should be: every verdict is withheld.");
        end_line(canvas);
    }
    end_line(canvas);
}

// Whether no stage with a weight stands before this one.
static bool is_first_share(const struct cli_view *view)
{
    for (uint32_t i = 0; i + 1 < view->stage && i < view->stage_count; i++)
        if (view->stage_weights[i] > 0)
            return false;
    return true;
}

// The next thing that time alone will do.
void cli_view_next(const struct cli_view *view, int64_t now_ms, struct text *out)
{
    int64_t left_ms = view->stage_since_ms + (int64_t)view->stage_for_ms - now_ms;
    int64_t warming_ms = view->stage_since_ms + (int64_t)view->warmup_ms - now_ms;
    bool first = is_first_share(view);
    if (state_is(view, ROLLOUT_BASELINE)) {
        text_addf(out,
                  "Baseline: measuring how fast %s is, before %s gets traffic; %" PRIu64 " requests so far",
                  view->from, view->to,
                  view->edge_requests > 0 ? view->edge_requests : view->arms[ROLLOUT_ARM_STABLE].requests);
    } else if (state_is(view, ROLLOUT_PENDING)) {
        text_addf(out, "Not started: sluice rollout start %s", view->name);
    } else if (state_is(view, ROLLOUT_AWAITING_APPROVAL)) {
        text_addf(out, "Waits for a person: sluice rollout approve %s", view->name);
    } else if (state_is(view, ROLLOUT_PAUSED)) {
        text_addf(out, "Paused by hand: sluice rollout resume %s", view->name);
    } else if (state_is(view, ROLLOUT_UNDECIDED)) {
        text_add(out,
                 SLICE("Held, undecided: resume gives it another horizon; promote or abort decides by hand"));
    } else if (state_is(view, ROLLOUT_ROLLED_BACK)) {
        text_addf(out, "All traffic is on %s. With a mended %s in place: sluice rollout start %s", view->from,
                  view->to, view->name);
    } else if (state_is(view, ROLLOUT_SHIFTING) && first && warming_ms > 0) {
        text_addf(out, "Warming up: %s is new to its traffic, so its latency counts only in ", view->to);
        cli_span_write(warming_ms + 999, out);
        text_add(out, SLICE("; errors count already"));
    } else if (left_ms > 0 && (state_is(view, ROLLOUT_SHIFTING) || state_is(view, ROLLOUT_SOAKING) ||
                               state_is(view, ROLLOUT_SHADOW))) {
        text_add(out, state_is(view, ROLLOUT_SOAKING) ? SLICE("Watched at full weight for another ")
                                                      : SLICE("Stays in this stage for at least another "));
        cli_span_write(left_ms + 999, out);
    }
}

static void draw_next(struct canvas *canvas, const struct cli_view *view, int64_t now_ms)
{
    char storage[CLI_NEXT_BYTES];
    struct text text = text_over(storage, sizeof storage);
    cli_view_next(view, now_ms, &text);
    if (text.len > 0)
        put_wrapped(canvas, cli_view_waits(view) ? PAINT_WARN : PAINT_DIM, text_slice(&text));
}

static void draw_verdict(struct canvas *canvas, const struct cli_view *view)
{
    if (!view->has_verdict)
        return;
    bool bad = strcmp(view->outcome, "rolled back") == 0;
    bool good = strcmp(view->outcome, "promoted") == 0 || strcmp(view->outcome, "completed") == 0;
    const char *p = view->verdict;
    for (int line = 0; *p != '\0' && line < 4; line++) {
        size_t len = strcspn(p, "\n");
        enum paint paint = line > 0 ? PAINT_NONE : bad ? PAINT_BAD : good ? PAINT_GOOD : PAINT_BOLD;
        put_wrapped(canvas, paint, (struct slice){p, len});
        p += len + (p[len] == '\n' ? 1 : 0);
    }
    if (view->failures[0] != '\0')
        put_wrapped(canvas, PAINT_NONE, slice_of(view->failures));
}

static void draw_failing(struct canvas *canvas, const struct cli_view *view)
{
    if (view->failing[ROLLOUT_FAILING_ERRORS][0] != '\0')
        put_wrapped(canvas, PAINT_DIM, slice_of(view->failing[ROLLOUT_FAILING_ERRORS]));
}

static void draw_stale(struct canvas *canvas, const struct cli_view *view, int64_t now_ms)
{
    char storage[96];
    struct text text = text_over(storage, sizeof storage);
    if (view->stale_since_ms == 0)
        return;
    text_add(&text, SLICE("NO ANSWER from the daemon for "));
    cli_span_write(now_ms - view->stale_since_ms, &text);
    text_add(&text, SLICE(": this is how it was then"));
    put_wrapped(canvas, PAINT_BAD, text_slice(&text));
}

void cli_view_draw(const struct cli_view *view, int64_t now_ms, const struct cli_style *style,
                   struct text *out)
{
    struct canvas canvas = {.out = out, .style = style};
    draw_stale(&canvas, view, now_ms);
    // What is shown is as old as it is; no time goes on in it.
    if (view->stale_since_ms > 0)
        now_ms = view->stale_since_ms;
    draw_title(&canvas, view, now_ms);
    draw_stages(&canvas, view);
    draw_split(&canvas, view);
    draw_arms(&canvas, view);
    draw_evidence(&canvas, view);
    draw_failing(&canvas, view);
    draw_verdict(&canvas, view);
    draw_next(&canvas, view, now_ms);
}

static void line_arm(const struct cli_view_arm *arm, struct text *out)
{
    text_addf(out, "; %s %.0f/s", arm->version, arm->per_second);
    if (arm->requests > 0)
        text_addf(out, " errors %.2f %%", arm->error_rate * 100);
    if (arm->has_latency)
        text_addf(out, " p99 %.1f ms", arm->ms[2]);
}

void cli_view_line(const struct cli_view *view, int64_t now_ms, struct text *out)
{
    text_addf(out, "%-20s %-16s", view->name, view->state);
    if (view->started_ms == 0) {
        text_addf(out, " %s to %s of %s, not started", view->from, view->to, view->service);
        return;
    }
    text_addf(out, " stage %u/%u  %g %%", view->stage, view->stage_count, view->wanted * 100);
    if (view->has_measured && !cli_view_final(view))
        text_addf(out, " (measured %.2f %%)", view->measured * 100);
    text_add(out, SLICE("  for "));
    cli_span_write(now_ms - view->state_since_ms, out);
    if (cli_view_final(view))
        return;
    if (view->shadow.on) {
        text_add(out, SLICE("; "));
        cli_view_shadow(view, out);
    }
    line_arm(&view->arms[ROLLOUT_ARM_STABLE], out);
    line_arm(&view->arms[ROLLOUT_ARM_CANARY], out);
    text_addf(out, "; towards rollback %.0f %%", part_of(view->bad, view->bad_needed) * 100);
    for (uint32_t i = 0; i < view->check_count; i++) {
        double part = view->checks[i].good ? 1 : part_of(view->checks[i].log_e, view->checks[i].needed);
        text_addf(out, ", %s %.0f %%", view->checks[i].name, (part > 1 ? 1 : part) * 100);
    }
}

// ---- a row of many ----

enum { ROW_NAME_MIN = 12, ROW_NAME_MAX = 40, ROW_FIXED = 16 + 6 + 9 + 12, ROW_ERRORS = 18, ROW_P99 = 18 };

// The columns that there is room for.
struct row_plan {
    size_t name;
    bool errors, p99;
};

static struct row_plan row_plan_of(const struct cli_style *style)
{
    size_t columns = style->columns;
    struct row_plan plan = {.errors = columns >= ROW_NAME_MIN + ROW_FIXED + ROW_ERRORS + 2};
    size_t used = ROW_FIXED + 1 + (plan.errors ? ROW_ERRORS : 0);
    plan.p99 = columns >= used + ROW_P99 + 24;
    used += plan.p99 ? ROW_P99 : 0;
    plan.name = columns > used + ROW_NAME_MIN ? columns - used : ROW_NAME_MIN;
    plan.name = plan.name < ROW_NAME_MAX ? plan.name : ROW_NAME_MAX;
    return plan;
}

static void put_pair(struct canvas *canvas, const struct cli_view *view, bool known, int width, double stable,
                     double canary, const char *unit)
{
    char storage[48] = "-";
    if (known && view->arms[ROLLOUT_ARM_CANARY].requests > 0)
        snprintf(storage, sizeof storage, "%.*f / %.*f %s", stable < 100 ? 2 : 0, stable,
                 canary < 100 ? 2 : 0, canary, unit);
    put(canvas, PAINT_NONE, " %*s", width - 1, storage);
}

void cli_view_row_heads(const struct cli_style *style, struct text *out)
{
    struct row_plan plan = row_plan_of(style);
    struct canvas canvas = {.out = out, .style = style};
    put(&canvas, PAINT_DIM, "%-*s %-16s%6s%9s%12s", (int)plan.name, "ROLLOUT", "STATE", "STAGE", "WEIGHT",
        "FOR");
    if (plan.errors)
        put(&canvas, PAINT_DIM, "%*s", ROW_ERRORS, "ERRORS old / new");
    if (plan.p99)
        put(&canvas, PAINT_DIM, "%*s", ROW_P99, "P99 old / new");
    end_line(&canvas);
}

void cli_view_row(const struct cli_view *view, int64_t now_ms, const struct cli_style *style,
                  struct text *out)
{
    struct row_plan plan = row_plan_of(style);
    struct canvas canvas = {.out = out, .style = style};
    char name[4 * ROLLOUT_NAME_BYTES], stage[16] = "-", weight[24] = "-", span[32] = "-";
    fit(view->name, plan.name, style->utf8, name, sizeof name);
    if (view->started_ms > 0) {
        struct text text = text_over(span, sizeof span);
        snprintf(stage, sizeof stage, "%u/%u", view->stage, view->stage_count);
        snprintf(weight, sizeof weight, "%.4g %%", view->wanted * 100);
        cli_span_write(now_ms - view->state_since_ms, &text);
    }
    put(&canvas, PAINT_NONE, "%-*s ", (int)(plan.name + strlen(name) - columns_of(name)), name);
    put(&canvas, paint_of_state(view), "%-16s", view->state);
    put(&canvas, PAINT_NONE, "%6s%9s%12s", stage, ring_of(view) != NULL ? "ring" : weight, span);
    const struct cli_view_arm *stable = &view->arms[ROLLOUT_ARM_STABLE];
    const struct cli_view_arm *canary = &view->arms[ROLLOUT_ARM_CANARY];
    if (plan.errors)
        put_pair(&canvas, view, true, ROW_ERRORS, stable->error_rate * 100, canary->error_rate * 100, "%");
    if (plan.p99)
        put_pair(&canvas, view, stable->has_latency && canary->has_latency, ROW_P99, stable->ms[2],
                 canary->ms[2], "ms");
    end_line(&canvas);
}
