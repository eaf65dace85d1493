// SPDX-License-Identifier: Apache-2.0
// `sluice diff` of two stored bodies, compared as a mirror would compare them.
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/cli/diff.h"
#include "daemon/cli/flag.h"
#include "ship/diff/diff.h"

// What names of files and first bytes tell.
static const char *guess_type(const struct flag_file *file)
{
    static const struct {
        const char *ending, *type;
    } TYPES[] = {{".json", "application/json"},
                 {".html", "text/html"},
                 {".txt", "text/plain"},
                 {".xml", "application/xml"},
                 {".bin", "application/octet-stream"}};
    const char *ending = strrchr(file->name, '.');
    for (size_t i = 0; i < ARRAY_LEN(TYPES) && ending != NULL; i++)
        if (strcasecmp(ending, TYPES[i].ending) == 0)
            return TYPES[i].type;
    size_t at = strspn(file->text, " \t\r\n");
    return file->text[at] == '{' || file->text[at] == '[' ? "application/json" : "text/plain";
}

// No reader makes more values than there are bytes after which one can begin.
static size_t values_of(const struct flag_file *file, const char *type)
{
    size_t values = 4;
    if (diff_reader_of(slice_of(type)) == DIFF_READER_GRPC)
        return values + file->len;
    for (size_t i = 0; i < file->len; i++)
        values += memchr(",[{\n", file->text[i], 4) != NULL;
    return values;
}

static void print_words(const struct cli_call *call, const struct diff_comparison *found)
{
    char words[DIFF_WORDS_BYTES];
    for (uint32_t i = 0; i < found->count; i++) {
        diff_finding_words(&found->findings[i], words);
        cli_print_told(call->out, words);
        fputc('\n', call->out);
    }
    if (found->beyond > 0)
        fprintf(call->out, "and %" PRIu64 " at further paths\n", found->beyond);
    if (found->ignored > 0)
        fprintf(call->out, "%" PRIu64 " left out by --ignore\n", found->ignored);
    for (int i = 0; i < DIFF_NOTES; i++)
        if ((found->notes & 1U << i) != 0)
            fprintf(call->err, "note: %s\n", diff_note_words(1U << i));
    if (found->fault.what != NULL)
        fprintf(call->err, "note: byte %" PRIu32 " of %s: %s\n", found->fault.at,
                cli_shown(call->args[found->fault.second]), found->fault.what);
    if (found->count == 0)
        fprintf(call->out, "no difference\n");
}

static json_t *finding_json(const struct diff_finding *finding)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "path", finding->path, "kind",
                     diff_kind_name(finding->kind), "count", (json_int_t)finding->count, "place",
                     finding->place, "class", diff_class_name(finding->class), "first", finding->first,
                     "second", finding->second);
}

static void print_json(const struct cli_call *call, const struct diff_comparison *found)
{
    json_t *findings = json_array(), *notes = json_array();
    for (uint32_t i = 0; i < found->count; i++)
        json_array_append_new(findings, finding_json(&found->findings[i]));
    for (int i = 0; i < DIFF_NOTES; i++)
        if ((found->notes & 1U << i) != 0)
            json_array_append_new(notes, json_string(diff_note_words(1U << i)));
    json_t *root =
        json_pack("{s:b, s:o, s:I, s:I, s:o}", "equal", found->count == 0, "findings", findings, "ignored",
                  (json_int_t)found->ignored, "beyond", (json_int_t)found->beyond, "notes", notes);
    cli_print_json(call->out, root);
    json_decref(root);
}

static int compare_files(const struct cli_call *call, const struct flag_file files[2])
{
    struct diff_ignore ignores[CLI_REPEATED_MAX];
    const char *given = cli_value(call, "type"), *type = given != NULL ? given : guess_type(&files[0]);
    struct diff_header header = {SLICE("content-type"), slice_of(type)};
    struct diff_answer answers[2];
    // The key stays zero, so that digests of two calls can be compared: these files are the caller's own.
    struct diff_recipe recipe = {.ignores = ignores,
                                 .ignore_count = (uint32_t)call->repeated_count,
                                 .spelling = cli_given(call, "spelling")};
    size_t bytes = (values_of(&files[0], type) + values_of(&files[1], type)) * DIFF_NODE_BYTES;
    struct diff_space space = {heap_alloc(1, bytes), bytes};
    struct diff_comparison *found = heap_alloc(1, sizeof *found);
    int code = CLI_EXIT_UNREADABLE;
    for (size_t i = 0; i < call->repeated_count; i++)
        ignores[i] = (struct diff_ignore){slice_of(call->repeated[i]), SLICE("--ignore")};
    for (int i = 0; i < 2; i++)
        answers[i] = (struct diff_answer){
            .headers = &header, .header_count = 1, .body = {files[i].text, files[i].len}};
    if (space.memory == NULL || found == NULL) {
        fprintf(call->err, "sluice: no memory is left\n");
    } else {
        code = diff_compare(&recipe, &answers[0], &answers[1], space, found) ? CLI_EXIT_OK : CLI_EXIT_NO;
        if (cli_given(call, "json"))
            print_json(call, found);
        else
            print_words(call, found);
    }
    heap_free(space.memory);
    heap_free(found);
    return code;
}

static int compare_stored(const struct cli_call *call)
{
    struct flag_file files[2] = {{0}};
    int code = flag_file_read(call, call->args[0], &files[0]);
    if (code == CLI_EXIT_OK)
        code = flag_file_read(call, call->args[1], &files[1]);
    if (code == CLI_EXIT_OK)
        code = compare_files(call, files);
    flag_file_free(&files[0]);
    flag_file_free(&files[1]);
    return code;
}

// Which of the options are for whom is told before anything is read or asked.
static bool options_fit(const struct cli_call *call, bool files)
{
    static const char *const of_files[] = {"type", "ignore", "spelling"};
    static const char *const of_daemon[] = {"path", "examples", "admin"};
    for (size_t i = 0; i < ARRAY_LEN(of_files); i++) {
        const char *wrong = files ? of_daemon[i] : of_files[i];
        if (!cli_given(call, wrong))
            continue;
        fprintf(call->err, "sluice diff: --%s goes with %s\nTry \"sluice help diff\".\n", wrong,
                files ? "the name of a service or rollout, not with two files"
                      : "two files, not with the name of a service or rollout");
        return false;
    }
    return true;
}

int cli_run_diff(const struct cli_call *call)
{
    if (!options_fit(call, call->arg_count == 2))
        return CLI_EXIT_USAGE;
    return call->arg_count == 2 ? compare_stored(call) : diff_show(call);
}
