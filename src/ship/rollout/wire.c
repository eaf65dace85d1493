// SPDX-License-Identifier: Apache-2.0
// Wire forms of inputs and effects. Decoding lets only what the machine's contract allows through: every
// range is checked here, and the outputs stay untouched unless all was well.
#include <stddef.h>
#include <string.h>

#include "base/check.h"
#include "ship/diff/noise.h"
#include "ship/rollout/rollout.h"

// Inputs of version 1 had 14 counts, no time slept and no run taken over; of version 2, a process that
// resumed went on with the sample ratio of the one before; of version 3, it told no errors_id; of version 4,
// nothing was in the shadow.
enum { INPUT_WIRE_VERSION = 5, EFFECTS_WIRE_VERSION = 1, EFFECTS_WIRE_BYTES_MAX = 2560 };

// The members of struct rollout_counts in wire order, as an array.
enum { COUNT_FIELDS = sizeof(struct rollout_counts) / sizeof(uint32_t), COUNT_FIELDS_V1 = 14 };
_Static_assert(COUNT_FIELDS == 19 && sizeof(struct rollout_counts) == COUNT_FIELDS * sizeof(uint32_t),
               "a change of the counts is a new wire version");

static void put_text(struct wire_writer *writer, const char *storage, size_t cap)
{
    wire_put_bytes(writer, (struct slice){storage, strnlen(storage, cap - 1)});
}

static uint64_t get_at_most(struct wire_reader *reader, uint64_t most)
{
    uint64_t value = wire_get_u64(reader);
    if (value <= most)
        return value;
    reader->bad = true;
    return 0;
}

// Version 0 is just malformed bytes, one above the newest a later program's. 0 when it cannot be read.
static uint64_t get_version(struct wire_reader *reader, uint64_t newest)
{
    uint64_t version = wire_get_u64(reader);
    if (version < 1)
        reader->bad = true;
    return !reader->bad && version <= newest ? version : 0;
}

// ---- spans: most counts are zero, so a mask says which follow ----

static void put_counts(struct wire_writer *writer, const struct rollout_counts *counts)
{
    uint32_t fields[COUNT_FIELDS];
    memcpy(fields, counts, sizeof fields);
    uint64_t mask = 0;
    for (int i = 0; i < COUNT_FIELDS; i++)
        mask |= (uint64_t)(fields[i] != 0) << i;
    wire_put_u64(writer, mask);
    for (int i = 0; i < COUNT_FIELDS; i++)
        if (fields[i] != 0)
            wire_put_u64(writer, fields[i]);
}

static void get_counts(struct wire_reader *reader, uint64_t version, struct rollout_counts *counts)
{
    uint32_t fields[COUNT_FIELDS] = {0};
    int known = version < 2 ? COUNT_FIELDS_V1 : COUNT_FIELDS;
    uint64_t mask = get_at_most(reader, (1u << known) - 1);
    for (int i = 0; i < known; i++)
        if ((mask >> i & 1) != 0)
            fields[i] = (uint32_t)get_at_most(reader, UINT32_MAX);
    memcpy(counts, fields, sizeof fields);
}

// Ticks and tables are written as steps from the one before (modulo 2^64, so any value survives).
static void put_span(struct wire_writer *writer, const struct rollout_span_delta *span, uint64_t tick_before,
                     uint64_t table_before)
{
    wire_put_i64(writer, (int64_t)(span->tick - tick_before));
    wire_put_i64(writer, (int64_t)(span->table - table_before));
    wire_put_u64(writer, span->weight);
    wire_put_u64(writer, span->weight_control);
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        put_counts(writer, &span->arms[arm]);
}

static void get_span(struct wire_reader *reader, uint64_t version, uint64_t tick_before,
                     uint64_t table_before, struct rollout_span_delta *span)
{
    span->tick = tick_before + (uint64_t)wire_get_i64(reader);
    span->table = table_before + (uint64_t)wire_get_i64(reader);
    span->weight = (uint32_t)get_at_most(reader, ROLLOUT_WEIGHT_FULL);
    span->weight_control = (uint32_t)get_at_most(reader, ROLLOUT_WEIGHT_FULL - span->weight);
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        get_counts(reader, version, &span->arms[arm]);
    span->ring = (struct rollout_counts){.routed = 0};
}

// ---- what mirrored requests showed ----

// The members of struct rollout_shadow_delta before its rows, in wire order.
enum { SHADOW_COUNTS = 8 + 2 * ROLLOUT_SHADOW_EDGES };
_Static_assert(offsetof(struct rollout_shadow_delta, row_count) == SHADOW_COUNTS * sizeof(uint64_t),
               "a change of the delta is a new wire version");

static void put_shadow(struct wire_writer *writer, const struct rollout_shadow_delta *delta)
{
    wire_put_u64(writer, delta != NULL);
    if (delta == NULL)
        return;
    uint64_t counts[SHADOW_COUNTS];
    CHECK(delta->row_count <= ROLLOUT_SHADOW_ROWS_MAX);
    memcpy(counts, delta, sizeof counts);
    for (int i = 0; i < SHADOW_COUNTS; i++)
        wire_put_u64(writer, counts[i]);
    wire_put_u64(writer, delta->row_count);
    for (uint32_t i = 0; i < delta->row_count; i++) {
        const struct rollout_shadow_row *row = &delta->rows[i];
        const uint32_t fields[] = {row->row,       row->rank,      row->both,
                                   row->candidate, row->secondary, row->alone};
        for (size_t k = 0; k < ARRAY_LEN(fields); k++)
            wire_put_u64(writer, fields[k]);
    }
}

static void get_shadow_row(struct wire_reader *reader, struct rollout_shadow_row *row)
{
    row->row = (uint16_t)get_at_most(reader, DIFF_ROWS_MAX - 1);
    uint32_t *const fields[] = {&row->rank, &row->both, &row->candidate, &row->secondary, &row->alone};
    for (size_t k = 0; k < ARRAY_LEN(fields); k++)
        *fields[k] = (uint32_t)get_at_most(reader, UINT32_MAX);
}

// Counts of one tick fit 32 bits, so that no sum of theirs overflows.
static const struct rollout_shadow_delta *get_shadow(struct wire_reader *reader,
                                                     struct rollout_input_room *room)
{
    if (get_at_most(reader, 1) == 0)
        return NULL;
    uint64_t counts[SHADOW_COUNTS];
    for (int i = 0; i < SHADOW_COUNTS; i++)
        counts[i] = get_at_most(reader, UINT32_MAX);
    room->shadow = (struct rollout_shadow_delta){.rows = room->rows};
    memcpy(&room->shadow, counts, sizeof counts);
    room->shadow.row_count = (uint32_t)get_at_most(reader, ROLLOUT_SHADOW_ROWS_MAX);
    for (uint32_t i = 0; i < room->shadow.row_count && !reader->bad; i++)
        get_shadow_row(reader, &room->rows[i]);
    return &room->shadow;
}

static void put_tick(struct wire_writer *writer, const struct rollout_input *input)
{
    wire_put_u64(writer, input->tick.tick);
    wire_put_u64(writer, input->tick.slept_ticks);
    wire_put_u64(writer, input->tick.hold);
    wire_put_u64(writer, input->tick.spans_lost);
    wire_put_u64(writer, input->tick.baseline_count);
    wire_put_u64(writer, input->tick.span_count);
    uint64_t tick = input->tick.tick;
    uint64_t table = 0;
    for (uint32_t i = 0; i < input->tick.span_count; i++) {
        put_span(writer, &input->tick.spans[i], tick, table);
        tick = input->tick.spans[i].tick;
        table = input->tick.spans[i].table;
    }
    put_shadow(writer, input->tick.shadow);
}

static void get_tick(struct wire_reader *reader, uint64_t version, struct rollout_input_room *room,
                     struct rollout_input *input)
{
    input->tick.tick = wire_get_u64(reader);
    if (version >= 2) {
        input->tick.slept_ticks = wire_get_u64(reader);
        input->tick.hold = get_at_most(reader, 1) != 0;
    }
    input->tick.spans_lost = wire_get_u64(reader);
    input->tick.baseline_count = (uint32_t)get_at_most(reader, UINT32_MAX);
    input->tick.span_count = (uint32_t)get_at_most(reader, ROLLOUT_TICK_SPANS_MAX);
    input->tick.spans = room->spans;
    uint64_t tick = input->tick.tick;
    uint64_t table = 0;
    for (uint32_t i = 0; i < input->tick.span_count && !reader->bad; i++) {
        get_span(reader, version, tick, table, &room->spans[i]);
        tick = room->spans[i].tick;
        table = room->spans[i].table;
    }
    if (version >= 5)
        input->tick.shadow = get_shadow(reader, room);
}

// ---- verdicts ----

static void put_verdict(struct wire_writer *writer, const struct rollout_verdict *verdict)
{
    wire_put_u64(writer, verdict->outcome);
    wire_put_i64(writer, verdict->time_ms);
    wire_put_i64(writer, verdict->evidence_since_ms);
    wire_put_u64(writer, verdict->stage);
    put_text(writer, verdict->check, sizeof verdict->check);
    wire_put_double(writer, verdict->log_e);
    wire_put_double(writer, verdict->log_e_needed);
    wire_put_double(writer, verdict->ratio_low);
    wire_put_u64(writer, verdict->canary_events);
    wire_put_u64(writer, verdict->canary_total);
    wire_put_u64(writer, verdict->baseline_events);
    wire_put_u64(writer, verdict->baseline_total);
    put_text(writer, verdict->text, sizeof verdict->text);
}

static void get_verdict(struct wire_reader *reader, struct rollout_verdict *verdict)
{
    verdict->outcome = (enum rollout_outcome)get_at_most(reader, ROLLOUT_OUTCOMES - 1);
    verdict->time_ms = wire_get_i64(reader);
    verdict->evidence_since_ms = wire_get_i64(reader);
    verdict->stage = (uint32_t)get_at_most(reader, UINT32_MAX);
    wire_get_string(reader, verdict->check, sizeof verdict->check);
    verdict->log_e = wire_get_double(reader);
    verdict->log_e_needed = wire_get_double(reader);
    verdict->ratio_low = wire_get_double(reader);
    verdict->canary_events = wire_get_u64(reader);
    verdict->canary_total = wire_get_u64(reader);
    verdict->baseline_events = wire_get_u64(reader);
    verdict->baseline_total = wire_get_u64(reader);
    wire_get_string(reader, verdict->text, sizeof verdict->text);
}

// ---- inputs ----

static void put_edges(struct wire_writer *writer, const struct rollout_edges *edges)
{
    wire_put_u64(writer, edges->requests);
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        wire_put_u64(writer, edges->edge_us[k]);
}

static void get_edges(struct wire_reader *reader, struct rollout_edges *edges)
{
    edges->requests = wire_get_u64(reader);
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        edges->edge_us[k] = wire_get_u64(reader);
}

static void put_takeover(struct wire_writer *writer, const struct rollout_takeover *takeover)
{
    wire_put_u64(writer, takeover->state);
    wire_put_u64(writer, takeover->paused_from);
    wire_put_u64(writer, takeover->stage);
    wire_put_u64(writer, takeover->weight);
    wire_put_i64(writer, takeover->started_ms);
    wire_put_i64(writer, takeover->state_since_ms);
    put_edges(writer, &takeover->edges);
    put_verdict(writer, &takeover->last);
}

static void get_takeover(struct wire_reader *reader, struct rollout_takeover *takeover)
{
    takeover->state = (enum rollout_state)get_at_most(reader, ROLLOUT_STATES - 1);
    takeover->paused_from = (enum rollout_state)get_at_most(reader, ROLLOUT_STATES - 1);
    takeover->stage = (uint32_t)get_at_most(reader, ROLLOUT_STAGES_MAX - 1);
    takeover->weight = (uint32_t)get_at_most(reader, ROLLOUT_WEIGHT_FULL);
    takeover->started_ms = wire_get_i64(reader);
    takeover->state_since_ms = wire_get_i64(reader);
    get_edges(reader, &takeover->edges);
    get_verdict(reader, &takeover->last);
}

void rollout_input_encode(const struct rollout_input *input, struct wire_writer *writer)
{
    wire_put_u64(writer, INPUT_WIRE_VERSION);
    wire_put_u64(writer, input->kind);
    wire_put_i64(writer, input->time_ms);
    switch (input->kind) {
    case ROLLOUT_INPUT_SPEC:
        rollout_spec_encode(input->spec, writer);
        break;
    case ROLLOUT_INPUT_COMMAND:
        wire_put_u64(writer, input->command.command);
        put_text(writer, input->command.who, sizeof input->command.who);
        put_text(writer, input->command.from, sizeof input->command.from);
        break;
    case ROLLOUT_INPUT_EDGES:
        put_edges(writer, &input->edges);
        break;
    case ROLLOUT_INPUT_TICK:
        CHECK(input->tick.span_count <= ROLLOUT_TICK_SPANS_MAX);
        put_tick(writer, input);
        break;
    case ROLLOUT_INPUT_TAKEOVER:
        rollout_spec_encode(input->takeover.spec, writer);
        put_takeover(writer, &input->takeover);
        break;
    case ROLLOUT_INPUT_RESUMED:
        wire_put_u64(writer, input->resumed.strangers);
        wire_put_u64(writer, input->resumed.errors_id);
        break;
    case ROLLOUT_INPUT_REDEFINED:
        wire_put_u64(writer, input->redefined.errors_id);
        wire_put_u64(writer, input->redefined.table);
        break;
    case ROLLOUT_INPUTS:
        break;
    }
}

enum status rollout_input_decode(struct wire_reader *reader, struct rollout_input_room *room,
                                 struct rollout_input *input)
{
    struct rollout_input out;
    enum status status;
    memset(&out, 0, sizeof out);
    uint64_t version = get_version(reader, INPUT_WIRE_VERSION);
    if (version == 0)
        return reader->bad ? STATUS_CORRUPT : STATUS_UNSUPPORTED;
    out.kind = (enum rollout_input_kind)get_at_most(reader,
                                                    version < 2 ? ROLLOUT_INPUT_RESUMED : ROLLOUT_INPUTS - 1);
    out.time_ms = wire_get_i64(reader);
    if (reader->bad)
        return STATUS_CORRUPT;
    switch (out.kind) {
    case ROLLOUT_INPUT_SPEC:
        status = rollout_spec_decode(reader, &room->spec);
        if (status != STATUS_OK)
            return status;
        out.spec = &room->spec;
        break;
    case ROLLOUT_INPUT_COMMAND:
        out.command.command = (enum rollout_command)get_at_most(reader, ROLLOUT_COMMANDS - 1);
        wire_get_string(reader, out.command.who, sizeof out.command.who);
        wire_get_string(reader, out.command.from, sizeof out.command.from);
        break;
    case ROLLOUT_INPUT_EDGES:
        get_edges(reader, &out.edges);
        break;
    case ROLLOUT_INPUT_TICK:
        get_tick(reader, version, room, &out);
        break;
    case ROLLOUT_INPUT_TAKEOVER:
        status = rollout_spec_decode(reader, &room->spec);
        if (status != STATUS_OK)
            return status;
        out.takeover.spec = &room->spec;
        get_takeover(reader, &out.takeover);
        break;
    case ROLLOUT_INPUT_RESUMED:
        out.resumed.strangers = version >= 3 && get_at_most(reader, 1) == 1;
        out.resumed.errors_id = version >= 4 ? wire_get_u64(reader) : 0;
        break;
    case ROLLOUT_INPUT_REDEFINED:
        out.redefined.errors_id = wire_get_u64(reader);
        out.redefined.table = wire_get_u64(reader);
        break;
    case ROLLOUT_INPUTS:
        break;
    }
    if (reader->bad)
        return STATUS_CORRUPT;
    *input = out;
    return STATUS_OK;
}

// ---- effects ----

void rollout_effects_encode(const struct rollout_effects *effects, struct wire_writer *writer)
{
    wire_put_u64(writer, EFFECTS_WIRE_VERSION);
    wire_put_u64(writer, (effects->changed ? 1u : 0u) | (effects->publish ? 2u : 0u) |
                             (effects->has_verdict ? 4u : 0u));
    wire_put_u64(writer, effects->from);
    wire_put_u64(writer, effects->to);
    wire_put_u64(writer, effects->stage);
    wire_put_u64(writer, effects->weight);
    wire_put_u64(writer, effects->refused);
    put_text(writer, effects->refused_text, sizeof effects->refused_text);
    if (effects->has_verdict)
        put_verdict(writer, &effects->verdict);
}

enum status rollout_effects_decode(struct wire_reader *reader, struct rollout_effects *effects)
{
    struct rollout_effects out;
    memset(&out, 0, sizeof out);
    if (get_version(reader, EFFECTS_WIRE_VERSION) == 0)
        return reader->bad ? STATUS_CORRUPT : STATUS_UNSUPPORTED;
    uint64_t flags = get_at_most(reader, 7);
    out.changed = (flags & 1) != 0;
    out.publish = (flags & 2) != 0;
    out.has_verdict = (flags & 4) != 0;
    out.from = (enum rollout_state)get_at_most(reader, ROLLOUT_STATES - 1);
    out.to = (enum rollout_state)get_at_most(reader, ROLLOUT_STATES - 1);
    out.stage = (uint32_t)get_at_most(reader, ROLLOUT_STAGES_MAX - 1);
    out.weight = (uint32_t)get_at_most(reader, ROLLOUT_WEIGHT_FULL);
    out.refused = (enum status)get_at_most(reader, STATUS_COUNT - 1);
    wire_get_string(reader, out.refused_text, sizeof out.refused_text);
    if (out.has_verdict)
        get_verdict(reader, &out.verdict);
    if (reader->bad)
        return STATUS_CORRUPT;
    *effects = out;
    return STATUS_OK;
}

bool rollout_effects_equal(const struct rollout_effects *a, const struct rollout_effects *b)
{
    uint8_t bytes[2][EFFECTS_WIRE_BYTES_MAX];
    struct wire_writer writers[2] = {{.data = bytes[0], .cap = sizeof bytes[0]},
                                     {.data = bytes[1], .cap = sizeof bytes[1]}};
    rollout_effects_encode(a, &writers[0]);
    rollout_effects_encode(b, &writers[1]);
    CHECK(!writers[0].full && !writers[1].full);
    return writers[0].len == writers[1].len && memcmp(bytes[0], bytes[1], writers[0].len) == 0;
}
