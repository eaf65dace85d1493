// SPDX-License-Identifier: Apache-2.0
// `sluice replay JOURNAL`: anybody derives every decision again. Reads only.
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/heap.h"
#include "daemon/cli/cli_private.h"
#include "daemon/cli/shown.h"
#include "flags/runtime/runtime.h"
#include "operate/log/log.h"
#include "ship/engine/replay.h"
#include "ship/store/journal.h"

static void print_text(const struct cli_call *call, const struct engine_replay *replay)
{
    FILE *out = call->out;
    fprintf(out, "%s: %" PRIu64 " entries, %" PRIu64 " inputs, %" PRIu64 " decisions", call->args[0],
            replay->entries, replay->inputs, replay->decisions);
    if (replay->entries > 0) {
        char first[32], last[32];
        struct text first_text = text_over(first, sizeof first);
        struct text last_text = text_over(last, sizeof last);
        log_time_write(replay->first_ms, &first_text);
        log_time_write(replay->last_ms, &last_text);
        fprintf(out, ", %u starts of the daemon, %s to %s", replay->processes, first, last);
    }
    fputc('\n', out);
    for (uint32_t i = 0; i < replay->record_count; i++) {
        const struct engine_record *record = replay->records[i];
        struct rollout_view view;
        rollout_view_get(record->core, &view);
        fprintf(out,
                "  %-24s run %u, %" PRIu64 " inputs, %" PRIu64 " spans, %" PRIu64 " decisions: %s at %g %%\n",
                cli_shown(record->name), record->run, record->inputs, record->spans, record->decisions,
                rollout_state_name(view.state), view.weight / 1000.0);
    }
    if (replay->forgotten > 0)
        fprintf(out, "  %" PRIu64 " finished rollouts made room for others: replayed, and forgotten since\n",
                replay->forgotten);
    if (replay->differs) {
        fprintf(out, "DIFFERENT at entry %" PRIu64 ", rollout %s\n  recorded: %s\n  derived:  %s\n",
                replay->difference_seq, cli_shown(replay->difference_subject), cli_shown(replay->recorded),
                cli_shown(replay->derived));
        return;
    }
    if (replay->owed_count > 0)
        fprintf(out,
                "The last decision of %u rollout%s was not written before the daemon ended; its next start "
                "takes it again.\n",
                replay->owed_count, replay->owed_count == 1 ? "" : "s");
    if (replay->foreign > 0)
        fprintf(out,
                "%" PRIu64
                " more decisions were taken under a rule that this version no longer has: they stand as "
                "they were recorded.\n",
                replay->foreign);
    fprintf(out, replay->foreign > 0 && replay->decisions == 0 ? "Nothing was left to derive.\n"
                                                               : "Every decision came out the same.\n");
}

static void print_json(const struct cli_call *call, const struct engine_replay *replay)
{
    json_t *rollouts = json_array();
    for (uint32_t i = 0; i < replay->record_count; i++) {
        const struct engine_record *record = replay->records[i];
        struct rollout_view view;
        rollout_view_get(record->core, &view);
        json_array_append_new(rollouts,
                              json_pack("{s:s, s:i, s:I, s:I, s:I, s:s, s:f}", "name", record->name, "run",
                                        (int)record->run, "inputs", (json_int_t)record->inputs, "spans",
                                        (json_int_t)record->spans, "decisions", (json_int_t)record->decisions,
                                        "state", rollout_state_name(view.state), "weight",
                                        (double)view.weight / ROLLOUT_WEIGHT_FULL));
    }
    json_t *body = json_pack("{s:s, s:I, s:I, s:I, s:I, s:b, s:o}", "journal", call->args[0], "entries",
                             (json_int_t)replay->entries, "inputs", (json_int_t)replay->inputs, "decisions",
                             (json_int_t)replay->decisions, "decisions_of_older_rules",
                             (json_int_t)replay->foreign, "equal", !replay->differs, "rollouts", rollouts);
    if (replay->differs)
        json_object_set_new(body, "difference",
                            json_pack("{s:I, s:s, s:s, s:s}", "entry", (json_int_t)replay->difference_seq,
                                      "rollout", replay->difference_subject, "recorded", replay->recorded,
                                      "derived", replay->derived));
    cli_print_json(call->out, body);
    json_decref(body);
}

// Changes of flags decide nothing here, but they must be readable.
static enum status fold(void *context, const struct journal_entry *entry)
{
    return runtime_fold(context, entry->seq, entry->time_ms, entry->payload);
}

static int replay_open(const struct cli_call *call, struct journal *journal, struct engine_replay *replay)
{
    struct fault problem;
    enum status status = engine_replay_run(journal, replay, &problem);
    if (status != STATUS_OK) {
        fprintf(call->err, "sluice replay: %s\n", cli_told(problem.text));
        return CLI_EXIT_UNREADABLE;
    }
    if (cli_given(call, "json"))
        print_json(call, replay);
    else
        print_text(call, replay);
    return replay->differs ? CLI_EXIT_NO : CLI_EXIT_OK;
}

int cli_run_replay(const struct cli_call *call)
{
    struct fault problem;
    struct journal *journal;
    if (journal_open(call->args[0], JOURNAL_READ, &journal, &problem) != STATUS_OK) {
        fprintf(call->err, "sluice replay: %s\n", cli_told(problem.text));
        return CLI_EXIT_UNREADABLE;
    }
    struct engine_replay *replay = heap_alloc(1, sizeof *replay);
    int code = CLI_EXIT_UNREADABLE;
    if (replay != NULL) {
        replay->fold = fold;
        code = replay_open(call, journal, replay);
        engine_replay_deinit(replay);
        heap_free(replay);
    }
    journal_close(journal);
    return code;
}
