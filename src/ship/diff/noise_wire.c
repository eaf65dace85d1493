// SPDX-License-Identifier: Apache-2.0
// The table as bytes: counts, folded paths, rows. What can be counted again from these is not written.
#include "ship/diff/noise_private.h"

enum { FORM = 1 };

void diff_noise_put(const struct diff_noise *noise, struct wire_writer *writer)
{
    const uint64_t heads[] = {FORM,          noise->triples, noise->pairs,
                              noise->beyond, noise->crowded, noise->rank_count};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        wire_put_u64(writer, heads[i]);
    wire_put_u64(writer, noise->folded_count);
    for (uint32_t i = 0; i < noise->folded_count; i++)
        wire_put_u64(writer, noise->folded[i]);
    wire_put_u64(writer, noise->row_count);
    for (uint32_t i = 0; i < noise->row_count; i++) {
        const struct diff_row *row = &noise->rows[i];
        const uint64_t counts[] = {row->kind,      row->class,     row->rank,  row->folded, row->both,
                                   row->candidate, row->secondary, row->alone, row->earlier};
        wire_put_bytes(writer, slice_of(row->path));
        for (size_t k = 0; k < ARRAY_LEN(counts); k++)
            wire_put_u64(writer, counts[k]);
    }
}

static bool get_row(struct wire_reader *reader, struct diff_noise *noise)
{
    struct diff_row row = {0};
    wire_get_string(reader, row.path, sizeof row.path);
    uint64_t kind = wire_get_u64(reader), class = wire_get_u64(reader), rank = wire_get_u64(reader);
    row.folded = (uint32_t)wire_get_u64(reader);
    uint64_t *const counts[] = {&row.both, &row.candidate, &row.secondary, &row.alone, &row.earlier};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        *counts[i] = wire_get_u64(reader);
    uint32_t before = noise->row_count > 0 ? noise->rows[noise->row_count - 1].rank : 0;
    if (reader->bad || row.path[0] == '\0' || kind >= DIFF_KINDS || class >= DIFF_CLASSES || rank <= before ||
        rank > noise->rank_count)
        return false;
    row.kind = (enum diff_kind)kind;
    row.class = (enum diff_class) class;
    row.rank = (uint32_t)rank;
    diff_noise_take_row(noise, &row);
    return true;
}

enum status diff_noise_get(struct wire_reader *reader, struct diff_noise *noise)
{
    *noise = (struct diff_noise){0};
    uint64_t form = wire_get_u64(reader);
    noise->triples = wire_get_u64(reader);
    noise->pairs = wire_get_u64(reader);
    noise->beyond = wire_get_u64(reader);
    noise->crowded = wire_get_u64(reader);
    uint64_t ranks = wire_get_u64(reader), folded = wire_get_u64(reader);
    if (reader->bad || form != FORM || ranks > UINT32_MAX || folded > DIFF_FOLDED_MAX)
        return STATUS_CORRUPT;
    noise->rank_count = (uint32_t)ranks;
    noise->folded_count = (uint32_t)folded;
    for (uint32_t i = 0; i < folded; i++)
        noise->folded[i] = wire_get_u64(reader);
    uint64_t rows = wire_get_u64(reader);
    if (reader->bad || rows > DIFF_ROWS_MAX)
        return STATUS_CORRUPT;
    for (uint64_t i = 0; i < rows; i++)
        if (!get_row(reader, noise))
            return STATUS_CORRUPT;
    diff_noise_note_rows(noise);
    return STATUS_OK;
}
