// SPDX-License-Identifier: Apache-2.0
// Findings: what does not map, in one line for each part, without repetitions.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "base/utf8.h"
#include "flags/convert/convert_private.h"

// Cuts an incomplete UTF-8 character off the end.
static void trim(char *text)
{
    size_t len = strlen(text);
    while (len > 0 && !utf8_valid((struct slice){text, len}))
        text[--len] = '\0';
}

static bool repeats(const struct convert_run *run, const struct convert_finding *finding)
{
    enum { LOOK_BACK = 16 };
    uint32_t count = run->result->finding_count;
    for (uint32_t i = 0; i < count && i < LOOK_BACK; i++) {
        const struct convert_finding *other = &run->result->findings[count - 1 - i];
        if (strcmp(other->flag, finding->flag) == 0 && strcmp(other->text, finding->text) == 0)
            return true;
    }
    return false;
}

static bool make_room(struct convert_run *run)
{
    struct convert_result *result = run->result;
    if (result->finding_count < run->finding_room)
        return true;
    uint32_t room = run->finding_room > 0 ? 2 * run->finding_room : 16;
    struct convert_finding *grown = heap_resize(result->findings, room * sizeof *grown);
    if (grown == NULL) {
        run->no_memory = true;
        return false;
    }
    result->findings = grown;
    run->finding_room = room;
    return true;
}

void convert_find(struct convert_run *run, enum convert_loss loss, const char *format, ...)
{
    struct convert_finding finding = {.lost = loss == CONVERT_LOST || loss == CONVERT_CHANGED};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding.text, sizeof finding.text, format, arguments);
    va_end(arguments);
    snprintf(finding.flag, sizeof finding.flag, "%s", run->flag);
    trim(finding.text);
    trim(finding.flag);
    if (loss == CONVERT_LOST && run->flag[0] != '\0')
        json_object_set_new(run->unsure, run->flag, json_true());
    if (loss == CONVERT_FALLS && json_object_get(run->unsure, run->flag) == NULL)
        json_object_set_new(run->unsure, run->flag, json_false());
    if (repeats(run, &finding))
        return;
    run->finding_count++;
    if (run->finding_count > CONVERT_FINDINGS_MAX + 1 || !make_room(run))
        return;
    run->result->findings[run->result->finding_count++] = finding;
}
