// SPDX-License-Identifier: Apache-2.0
// Any bytes as a journal of inputs: each one that decodes is given to a machine, encoded again and compared,
// and the machine's view and effects are read. The machine's own invariants are the oracle.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "ship/rollout/rollout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rollout_input_room room, room_again;

// What was decoded has one canonical form: decoding that gives the same again.
static void check_canonical(const struct rollout_input *input)
{
    static uint8_t bytes[2][ROLLOUT_INPUT_WIRE_BYTES_MAX];
    struct wire_writer writer = {.data = bytes[0], .cap = sizeof bytes[0]};
    rollout_input_encode(input, &writer);
    CHECK(!writer.full);
    struct wire_reader reader = {.data = bytes[0], .len = writer.len};
    struct rollout_input again;
    CHECK(rollout_input_decode(&reader, &room_again, &again) == STATUS_OK && wire_done(&reader));
    struct wire_writer second = {.data = bytes[1], .cap = sizeof bytes[1]};
    rollout_input_encode(&again, &second);
    CHECK(second.len == writer.len && memcmp(bytes[0], bytes[1], second.len) == 0);
}

static void check_effects(const struct rollout_effects *effects)
{
    uint8_t bytes[2048];
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    rollout_effects_encode(effects, &writer);
    CHECK(!writer.full);
    struct wire_reader reader = {.data = bytes, .len = writer.len};
    struct rollout_effects again;
    CHECK(rollout_effects_decode(&reader, &again) == STATUS_OK && wire_done(&reader));
    CHECK(rollout_effects_equal(effects, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rollout *rollout = malloc(rollout_size());
    CHECK(rollout != NULL);
    rollout_init(rollout);
    struct wire_reader reader = {.data = data, .len = size};
    while (reader.at < reader.len) {
        struct rollout_input input;
        struct rollout_effects effects;
        if (rollout_input_decode(&reader, &room, &input) != STATUS_OK)
            break;
        check_canonical(&input);
        rollout_step(rollout, &input, &effects);
        check_effects(&effects);
        (void)rollout_wait_ms(rollout);
    }
    struct rollout_view view;
    rollout_view_get(rollout, &view);
    free(rollout);
    return 0;
}
