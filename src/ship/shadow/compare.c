// SPDX-License-Identifier: Apache-2.0
// One request's answers: read, decoded and compared. A body of which not all is at hand, or that cannot be
// decoded, is compared by the digest of all that came, and then so is the one it is compared with.
#include "base/heap.h"
#include "ship/shadow/shadow_private.h"

static void read_headers(struct shadow_side *side, const struct mirror_answer *answer)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < answer->field_count && count < HTTP_FIELDS_MAX; i++)
        if ((answer->fields[i].marks & HTTP_FIELD_HOP) == 0)
            side->headers[count++] = (struct diff_header){answer->fields[i].name, answer->fields[i].value};
    side->answer.headers = side->headers;
    side->answer.header_count = count;
}

static void read_side(struct shadow_side *side, const struct mirror_answer *answer)
{
    static const enum diff_cut cuts[] = {[MIRROR_WHOLE] = DIFF_WHOLE,
                                         [MIRROR_CUT_LIMIT] = DIFF_CUT_LIMIT,
                                         [MIRROR_CUT_BROKEN] = DIFF_CUT_BROKEN,
                                         [MIRROR_CUT_TIME] = DIFF_CUT_TIME};
    CHECK((unsigned)answer->cut < ARRAY_LEN(cuts));
    side->decoded = (struct compress_decoded){.body = answer->body};
    side->answer = (struct diff_answer){.status = answer->status,
                                        .cut = cuts[answer->cut],
                                        .bytes = answer->body_bytes,
                                        .digest = answer->digest};
    read_headers(side, answer);
    if (answer->cut == MIRROR_WHOLE && (compress_decode(answer->fields, answer->field_count, answer->body,
                                                        SHADOW_BODY_BYTES_MAX, &side->decoded) != STATUS_OK ||
                                        side->decoded.body.len > SHADOW_BODY_BYTES_MAX))
        side->answer.cut = DIFF_CUT_LIMIT;
    side->answer.body = side->decoded.body;
}

static bool at_hand(const struct diff_answer *answer)
{
    return answer->cut == DIFF_WHOLE || answer->cut == DIFF_CUT_LIMIT;
}

// Returns whether digests had to do.
static bool compare(struct shadow_work *work, const struct diff_recipe *recipe,
                    const struct shadow_side *other, struct diff_comparison *found)
{
    struct diff_answer first = work->primary.answer, second = other->answer;
    bool by_digest = at_hand(&first) && at_hand(&second) && first.cut != second.cut;
    if (by_digest)
        first.cut = second.cut = DIFF_CUT_LIMIT;
    (void)diff_compare(recipe, &first, &second, work->space, found);
    return first.cut == DIFF_CUT_LIMIT || second.cut == DIFF_CUT_LIMIT;
}

struct shadow_outcome shadow_compare(struct shadow_work *work, const struct diff_recipe *recipe,
                                     const struct mirror_seen *seen)
{
    const struct mirror_answer *primary = &seen->primary;
    if (primary->end != MIRROR_ANSWERED || primary->cut == MIRROR_CUT_BROKEN ||
        primary->cut == MIRROR_CUT_TIME)
        return (struct shadow_outcome){.reason = SHADOW_PRIMARY_FAILED};
    if (seen->candidate.end != MIRROR_ANSWERED)
        return (struct shadow_outcome){.reason = SHADOW_CANDIDATE_FAILED};
    struct shadow_outcome outcome = {.compared = true,
                                     .triple = seen->has_secondary && seen->secondary.end == MIRROR_ANSWERED};
    struct diff_recipe timed = *recipe;
    timed.now_ms = seen->time_ms;
    read_side(&work->primary, primary);
    read_side(&work->candidate, &seen->candidate);
    outcome.by_digest = compare(work, &timed, &work->candidate, &work->of_candidate);
    if (outcome.triple) {
        read_side(&work->secondary, &seen->secondary);
        (void)compare(work, &timed, &work->secondary, &work->of_secondary);
        heap_free(work->secondary.decoded.memory);
    }
    heap_free(work->primary.decoded.memory);
    heap_free(work->candidate.decoded.memory);
    return outcome;
}

static bool is_error(const struct shadow_rules *rules, const struct mirror_answer *answer)
{
    if (answer->end != MIRROR_ANSWERED || answer->cut == MIRROR_CUT_BROKEN || answer->cut == MIRROR_CUT_TIME)
        return true;
    for (uint32_t i = 0; i < rules->error_count; i++)
        if (answer->status >= rules->errors[i].first && answer->status <= rules->errors[i].last)
            return true;
    return false;
}

static bool is_slow(const struct mirror_answer *answer, uint64_t edge_us)
{
    return edge_us > 0 && answer->wait_us > edge_us;
}

void shadow_count(const struct shadow_rules *rules, const struct mirror_seen *seen,
                  struct shadow_counts *counts)
{
    const struct mirror_answer *primary = &seen->primary, *candidate = &seen->candidate;
    CHECK((unsigned)candidate->end < MIRROR_ENDS);
    counts->sent++;
    if (seen->client_gone) {
        counts->uncompared[SHADOW_CLIENT_GONE]++;
        return;
    }
    counts->candidate_ends[candidate->end]++;
    counts->candidate_errors += is_error(rules, candidate);
    counts->primary_errors += is_error(rules, primary);
    if (candidate->end != MIRROR_ANSWERED || primary->end != MIRROR_ANSWERED)
        return;
    for (int k = 0; k < ROLLOUT_SHADOW_EDGES; k++) {
        bool slow = is_slow(candidate, rules->slow_candidate_us[k]);
        bool was_slow = is_slow(primary, rules->slow_primary_us[k]);
        counts->slow_candidate[k] += slow && !was_slow;
        counts->slow_primary[k] += was_slow && !slow;
    }
}
