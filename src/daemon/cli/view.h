// SPDX-License-Identifier: Apache-2.0
// One rollout as a person sees it: read from the API's JSON, drawn as a screen or told as a line. Drawing is
// a function of view, time and style alone.
#pragma once

#include <jansson.h>

#include "base/text.h"
#include "daemon/cli/cli_private.h"
#include "ship/rollout/failures.h"
#include "ship/rollout/rollout.h"

enum { CLI_VIEW_CHECKS = 3, CLI_VIEW_QUANTILES = 4, CLI_VIEW_FRAME_BYTES = 32768 };

struct cli_view_arm {
    bool present;
    char version[ROLLOUT_NAME_BYTES];
    uint64_t requests, errors;
    double error_rate, per_second, share;
    bool has_latency;
    double ms[CLI_VIEW_QUANTILES]; // p50, p90, p99, p99.9
};

struct cli_view_check {
    char name[16];
    double log_e, needed;
    bool good;
    bool more_known;
    uint64_t more_requests;
};

// What copies of requests showed.
struct cli_view_shadow {
    bool has_been, on;
    uint64_t sent, compared, needed, triples;
    uint64_t candidate_errors, primary_errors;
    uint64_t paths, different, suspected;
    double found; // share of answers that a difference must be in to be found; 0: none would be
};

struct cli_view {
    char name[ROLLOUT_NAME_BYTES];
    char service[ROLLOUT_NAME_BYTES];
    char from[ROLLOUT_NAME_BYTES];
    char to[ROLLOUT_NAME_BYTES];
    char state[32];
    uint32_t run;
    uint32_t stage; // from 1
    uint32_t stage_count;
    double stage_weights[ROLLOUT_STAGES_MAX];                 // 0..1; negative: an approval
    char stage_rings[ROLLOUT_STAGES_MAX][ROLLOUT_NAME_BYTES]; // the segment of a ring; empty: none
    bool stage_shadows[ROLLOUT_STAGES_MAX];
    struct cli_view_shadow shadow;
    uint64_t warmup_ms;
    uint64_t stage_for_ms;
    double wanted;
    bool has_measured;
    double measured;
    uint64_t stage_requests;
    int64_t started_ms, stage_since_ms, state_since_ms;
    struct cli_view_arm arms[ROLLOUT_ARMS];
    double bad, bad_needed;
    bool blocked;
    uint64_t edge_requests;
    uint32_t check_count;
    struct cli_view_check checks[CLI_VIEW_CHECKS];
    bool has_verdict;
    char outcome[32];
    int64_t verdict_ms;
    char verdict[ROLLOUT_VERDICT_TEXT_BYTES];
    char failures[ROLLOUT_FAILURES_TEXT_BYTES];                  // that the verdict saw
    char failing[ROLLOUT_FAILINGS][ROLLOUT_FAILURES_TEXT_BYTES]; // so far; empty: none
    bool in_file;
    bool file_differs;
    int64_t stale_since_ms; // the daemon has not answered since; 0: it does
};

struct cli_style {
    uint32_t columns;
    uint32_t rows;
    bool colour;
    bool utf8;
};

// STATUS_INVALID when it is not the JSON of a rollout.
MUST_USE enum status cli_view_read(const json_t *json, struct cli_view *view);
bool cli_view_final(const struct cli_view *view);
bool cli_view_waits(const struct cli_view *view); // for a person
// The screen: at most rows lines of at most columns, each ended by a line feed.
void cli_view_draw(const struct cli_view *view, int64_t now_ms, const struct cli_style *style,
                   struct text *out);
// A row of the list of all rollouts, and the row of its heads: columns of equal width, the name cut for them.
void cli_view_row(const struct cli_view *view, int64_t now_ms, const struct cli_style *style,
                  struct text *out);
void cli_view_row_heads(const struct cli_style *style, struct text *out);
// One line, without its end.
void cli_view_line(const struct cli_view *view, int64_t now_ms, struct text *out);
// What copies of requests showed, in a sentence or two without its end.
void cli_view_shadow(const struct cli_view *view, struct text *out);
enum { CLI_NEXT_BYTES = 320 };
// What it waits for, or what a person can do next, in a sentence without its end; nothing when it just goes
// on.
void cli_view_next(const struct cli_view *view, int64_t now_ms, struct text *out);
// A service of the API's status whose stable version is not the one that its file names: one line that says
// so, without its end. False: file and fact agree.
bool cli_view_stable(const json_t *service, struct text *out);
// "HH:MM:SS" in local time.
void cli_clock_write(int64_t wall_ms, struct text *out);
// "2026-11-21 14:03:02" in local time.
void cli_date_write(int64_t wall_ms, struct text *out);
// "42 s", "3 min 10 s", "2 h 5 min"
void cli_span_write(int64_t ms, struct text *out);
// From the environment and the stream: colour only on a terminal and without NO_COLOR.
struct cli_style cli_style_of(FILE *out);
int64_t cli_now_ms(void);
