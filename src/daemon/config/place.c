// SPDX-License-Identifier: Apache-2.0
// Paths in the file are relative to the file that names them. Where only the working directory has such a
// file, that one is meant, as it was in earlier versions: with a note, so that nothing begins anew in
// silence.
#include <unistd.h>

#include "daemon/config/config_private.h"

static void note(struct config_reader *reader, const char *path)
{
    struct config *config = reader->config;
    if (config->note_count == CONFIG_NOTES_MAX)
        return;
    struct text text = text_over(config->notes[config->note_count++], CONFIG_NOTE_BYTES);
    if (config->note_count == CONFIG_NOTES_MAX)
        text_addf(&text, "further paths are found from the working directory alone");
    else
        text_addf(
            &text,
            "'%s' is not beside the file that names it, and is taken from the working directory: move it, or write "
            "its whole path",
            config_show(slice_of(path)).text);
}

bool config_place_path(struct config_reader *reader, struct slice path, char *out, size_t cap)
{
    struct text text = text_over(out, cap);
    bool joined = path.data[0] != '/' && !slice_equal(path, SLICE("-")) && reader->folder.len > 0;
    if (joined)
        text_addf(&text, "%.*s/", (int)reader->folder.len, reader->folder.data);
    text_add(&text, path);
    if (text.cut)
        return false;
    const char *alone = out + (text.len - path.len);
    if (!joined || access(out, F_OK) == 0 || access(alone, F_OK) != 0)
        return true;
    note(reader, alone);
    memmove(out, alone, path.len + 1);
    return true;
}
