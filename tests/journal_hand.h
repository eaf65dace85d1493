// SPDX-License-Identifier: Apache-2.0
// First runs of rollouts, written into a journal by hand: a core says what it decides, and no daemon is
// there.
#pragma once

#include <stdio.h>

#include "ship/engine/record.h"
#include "ship/store/journal.h"
#include "test.h"

struct journal_hand {
    struct journal *journal;
    struct engine_record *record;
    uint8_t bytes[ROLLOUT_INPUT_WIRE_BYTES_MAX];
};

// The record is the caller's to destroy.
static inline void journal_hand_begin(struct journal_hand *hand, const char *name)
{
    assert_int_equal(engine_record_create(name, &hand->record), STATUS_OK);
}

static inline void journal_hand_append(struct journal_hand *hand, enum journal_kind kind,
                                       const struct wire_writer *writer)
{
    struct fault problem;
    struct journal_entry entry = {.time_ms = 1000, .kind = kind, .run = 1};
    snprintf(entry.subject, sizeof entry.subject, "%s", hand->record->name);
    entry.payload = (struct slice){(const char *)writer->data, writer->len};
    assert_int_equal(journal_begin(hand->journal, JOURNAL_SYNC_NORMAL, &problem), STATUS_OK);
    assert_int_equal(journal_append(hand->journal, &entry, NULL, &problem), STATUS_OK);
    assert_int_equal(journal_commit(hand->journal, &problem), STATUS_OK);
}

// Appends an input and the decision that it gives, altered when `lie`.
static inline void journal_hand_step(struct journal_hand *hand, const struct rollout_input *input, bool lie)
{
    struct rollout_effects effects;
    struct wire_writer writer = {.data = hand->bytes, .cap = sizeof hand->bytes};
    rollout_input_encode(input, &writer);
    journal_hand_append(hand, JOURNAL_INPUT, &writer);
    if (!engine_record_step(hand->record, input, 1, 1, &effects))
        return;
    effects.weight += lie ? 1 : 0;
    writer = (struct wire_writer){.data = hand->bytes, .cap = sizeof hand->bytes};
    rollout_effects_encode(&effects, &writer);
    journal_hand_append(hand, JOURNAL_DECISION, &writer);
}
