// SPDX-License-Identifier: Apache-2.0
// Files of flags without a daemon: reading, compiling, writing, and problems as people read them.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/utf8.h"
#include "daemon/cli/flag.h"
#include "daemon/config/config.h"

// ---- reading and writing ----

int flag_file_read(const struct cli_call *call, const char *name, struct flag_file *file)
{
    enum { CHUNK = 64 * 1024 };
    bool input = strcmp(name, "-") == 0;
    FILE *stream = input ? stdin : fopen(name, "rb");
    *file = (struct flag_file){.name = input ? "(standard input)" : name};
    bool failed = stream == NULL;
    size_t cap = 0;
    while (!failed && feof(stream) == 0) {
        if (cap - file->len < CHUNK) {
            cap = cap * 2 + CHUNK;
            char *grown = cap <= FLAG_FILE_BYTES_MAX ? heap_resize(file->text, cap + 1) : NULL;
            failed = grown == NULL;
            errno = EFBIG;
            file->text = grown != NULL ? grown : file->text;
        }
        if (failed)
            break;
        file->len += fread(file->text + file->len, 1, cap - file->len, stream);
        failed = ferror(stream) != 0;
    }
    if (failed)
        fprintf(call->err, "sluice: %s cannot be read: %s\n", file->name, strerror(errno));
    else
        file->text[file->len] = '\0';
    if (stream != NULL && !input)
        fclose(stream);
    if (!failed)
        return CLI_EXIT_OK;
    flag_file_free(file);
    return CLI_EXIT_UNREADABLE;
}

void flag_file_free(struct flag_file *file)
{
    heap_free(file->text);
    *file = (struct flag_file){0};
}

int flag_file_write(const struct cli_call *call, const char *name, struct slice text)
{
    char beside[4096];
    int n = snprintf(beside, sizeof beside, "%s.new-%d", name, (int)getpid());
    FILE *file = n > 0 && (size_t)n < sizeof beside ? fopen(beside, "wb") : NULL;
    bool ok = file != NULL && fwrite(text.data, 1, text.len, file) == text.len;
    if (file != NULL)
        ok = fclose(file) == 0 && ok;
    ok = ok && rename(beside, name) == 0;
    if (ok)
        return CLI_EXIT_OK;
    fprintf(call->err, "sluice: %s cannot be written: %s\n", name, strerror(errno));
    if (file != NULL)
        unlink(beside);
    return CLI_EXIT_UNREADABLE;
}

int flag_segments_read(const struct cli_call *call, char **segments)
{
    const char *name = cli_value(call, "segments");
    *segments = NULL;
    if (name == NULL)
        return CLI_EXIT_OK;
    struct config_errors *errors = heap_alloc(1, sizeof *errors);
    char *report = heap_alloc(1, CONFIG_REPORT_BYTES_MAX);
    struct config *config = NULL;
    int code = CLI_EXIT_UNREADABLE;
    if (errors != NULL && report != NULL && config_load(name, &config, errors) == STATUS_OK) {
        *segments = heap_strdup(config->segments != NULL ? config->segments : "{}");
        code = *segments != NULL ? CLI_EXIT_OK : CLI_EXIT_UNREADABLE;
    } else if (errors != NULL && report != NULL) {
        struct text text = text_over(report, CONFIG_REPORT_BYTES_MAX);
        config_errors_write(errors, &text);
        cli_print_report(call->err, report);
    }
    config_destroy(config);
    heap_free(errors);
    heap_free(report);
    return code;
}

// ---- compiling ----

void flag_compiled_free(struct flag_compiled *compiled)
{
    heap_free(compiled->image);
    heap_free(compiled->problems);
    heap_free(compiled->nodes);
    heap_free(compiled->chars);
    *compiled = (struct flag_compiled){0};
}

struct sizes {
    size_t image_bytes;
    size_t char_cap;
    uint32_t node_cap;
};

static bool compiled_alloc(struct flag_compiled *compiled, const struct sizes *sizes)
{
    *compiled = (struct flag_compiled){
        .image = heap_alloc_aligned(sizes->image_bytes),
        .problems = heap_alloc(FLAG_PROBLEMS_MAX, sizeof *compiled->problems),
        .nodes = heap_alloc(sizes->node_cap, sizeof *compiled->nodes),
        .chars = heap_alloc(sizes->char_cap, 1),
    };
    return compiled->image != NULL && compiled->problems != NULL && compiled->nodes != NULL &&
           compiled->chars != NULL;
}

static enum status compile_with(const struct flag_file *file, struct slice segments, enum flag_check check,
                                const struct sizes *sizes, struct flag_compiled *compiled)
{
    struct flags_bundle_document document = {.json = {file->text, file->len}, .name = file->name};
    struct flags_bundle bundle = {
        .documents = &document, .document_count = 1, .segments = segments, .part = check == FLAG_CHECK_PART};
    struct flags_compile_options options = {.strict = check == FLAG_CHECK_LINT};
    struct flags_json_space space = {.nodes = compiled->nodes,
                                     .node_cap = sizes->node_cap,
                                     .chars = compiled->chars,
                                     .char_cap = sizes->char_cap};
    size_t len = 0;
    size_t *count = &compiled->problem_count;
    enum status status = flags_bundle_compile(&bundle, &options, &space, compiled->image, sizes->image_bytes,
                                              &len, compiled->problems, FLAG_PROBLEMS_MAX, count);
    compiled->kept = *count < FLAG_PROBLEMS_MAX ? *count : FLAG_PROBLEMS_MAX;
    compiled->valid =
        status == STATUS_OK && flags_image_open(compiled->image, len, &compiled->set) == STATUS_OK;
    return status == STATUS_INVALID ? STATUS_OK : status;
}

// Begins with storage that suffices nearly always.
enum status flag_compile(const struct flag_file *file, struct slice segments, enum flag_check check,
                         struct flag_compiled *compiled)
{
    size_t text = file->len + segments.len;
    struct sizes sizes = {text * 3 + 256 * 1024, text + 1, 64 * 1024};
    for (int tries = 0;; tries++) {
        bool room = compiled_alloc(compiled, &sizes);
        enum status status = room ? compile_with(file, segments, check, &sizes, compiled) : STATUS_NO_MEMORY;
        if (status == STATUS_OK)
            return status;
        flag_compiled_free(compiled);
        if (!room || (status != STATUS_FULL && status != STATUS_NO_MEMORY) || tries == 4)
            return status;
        sizes.image_bytes *= status == STATUS_FULL ? 2 : 1;
        sizes.node_cap *= status == STATUS_NO_MEMORY ? 8 : 1;
    }
}

// ---- problems ----

static struct slice line_of(const struct flag_file *file, uint32_t line)
{
    const char *at = file->text;
    const char *end = file->text + file->len;
    for (uint32_t i = 1; i < line; i++) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        if (feed == NULL)
            return (struct slice){end, 0};
        at = feed + 1;
    }
    const char *feed = memchr(at, '\n', (size_t)(end - at));
    return (struct slice){at, (size_t)((feed != NULL ? feed : end) - at)};
}

// One visible character for each, so that the caret stays under its place.
static void print_excerpt(FILE *out, struct slice line, uint32_t number, uint32_t column, uint32_t skip)
{
    enum { BEFORE = 48, WIDTH = 72 };
    size_t place = column > 0 ? column - 1 : 0;
    size_t begin = place > WIDTH - 8 ? place - BEFORE : 0;
    size_t caret = 0;
    begin = begin < skip ? skip : begin;
    while (begin < line.len && ((unsigned char)line.data[begin] & 0xc0) == 0x80)
        begin++;
    if (place > line.len || begin >= line.len)
        return;
    fprintf(out, "  %5u | ", number);
    struct slice rest = {line.data + begin, line.len - begin};
    for (size_t shown = 0; rest.len > 0 && shown < WIDTH; shown++) {
        size_t at = (size_t)(rest.data - line.data);
        struct slice character = utf8_shown_next(&rest);
        bool before = at < place;
        caret += before;
        fwrite(character.data, 1, character.len, out);
    }
    fprintf(out, "\n        | %*s^\n", (int)caret, "");
}

void flag_place_print(FILE *out, const struct flag_file *file, uint32_t line, uint32_t column,
                      const char *message)
{
    fprintf(out, "%s:%u:%u: %s\n", file->name, line, column, message);
    print_excerpt(out, line_of(file, line), line, column, 0);
}

static void print_named(FILE *out, const char *before, struct slice name, const char *after)
{
    char text[256];
    struct text copy = text_over(text, sizeof text);
    text_add(&copy, name);
    fprintf(out, "%s\"%s\"%s", before, cli_shown(text), after);
}

static void suggest_operator(FILE *out, struct slice word)
{
    static const char *const operators[] = {
        "if",     "and", "or",      "var",  "missing",    "missing_some", "map",      "filter",
        "reduce", "all", "none",    "some", "merge",      "in",           "cat",      "substr",
        "min",    "max", "sem_ver", "$ref", "fractional", "starts_with",  "ends_with"};
    const char *nearest = config_nearest(word, operators, sizeof operators / sizeof operators[0]);
    if (nearest != NULL)
        fprintf(out, "; did you mean \"%s\"?", nearest);
}

void flag_problem_print(FILE *out, const struct flag_file *file, const struct flags_finding *problem,
                        uint32_t skip)
{
    bool user = problem->line > 1 || problem->column > skip;
    uint32_t hidden = problem->line == 1 ? skip : 0;
    uint32_t column = problem->column > hidden ? problem->column - hidden : 1;
    const char *kind = problem->severity == FLAGS_ERROR ? "error" : "warning";
    if (problem->document == FLAGS_DOCUMENTS_MAX)
        fprintf(out, "segments: %s: ", kind);
    else
        fprintf(out, "%s:%u:%u: %s: ", file->name, problem->line, column, kind);
    if (problem->key.len > 0 && skip == 0)
        print_named(out, "flag ", problem->key, ": ");
    fprintf(out, "%s", problem->message);
    if (problem->subject.len > 0)
        print_named(out, ": ", problem->subject, "");
    if (strcmp(problem->message, "unknown operator") == 0)
        suggest_operator(out, problem->subject);
    fprintf(out, "\n");
    if (problem->line > 0 && problem->document != FLAGS_DOCUMENTS_MAX && user)
        print_excerpt(out, line_of(file, problem->line), problem->line, problem->column, hidden);
}
