// SPDX-License-Identifier: Apache-2.0
// Access logs as lists of requests. Only requests that are safe to send again are taken; the others are
// counted.
#include "base/heap.h"
#include "operate/load/load.h"

// Cuts the next line off text.
static struct slice next_line(struct slice *text)
{
    const char *end = memchr(text->data, '\n', text->len);
    size_t len = end != NULL ? (size_t)(end - text->data) : text->len;
    struct slice line = {text->data, len};
    size_t step = end != NULL ? len + 1 : len;
    text->data += step;
    text->len -= step;
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    return line;
}

// Cuts the text before the mark off s; false when there is no mark.
static bool cut(struct slice *s, char mark, struct slice *before)
{
    const char *at = memchr(s->data, mark, s->len);
    if (at == NULL)
        return false;
    size_t len = (size_t)(at - s->data);
    *before = (struct slice){s->data, len};
    s->data += len + 1;
    s->len -= len + 1;
    return true;
}

struct fields {
    struct slice client, method, target, agent;
};

static bool split_line(struct slice line, struct fields *out)
{
    struct slice skipped, request, referer;
    if (!cut(&line, ' ', &out->client) || !cut(&line, '"', &skipped) || !cut(&line, '"', &request))
        return false;
    if (!cut(&request, ' ', &out->method) || !cut(&request, ' ', &out->target))
        return false;
    out->agent = (struct slice){"", 0};
    if (cut(&line, '"', &skipped) && cut(&line, '"', &referer) && cut(&line, '"', &skipped))
        (void)cut(&line, '"', &out->agent);
    return out->client.len > 0;
}

static bool method_is_safe(struct slice method)
{
    return slice_equal(method, SLICE("GET")) || slice_equal(method, SLICE("HEAD")) ||
           slice_equal(method, SLICE("OPTIONS"));
}

static bool is_visible(struct slice text, bool blanks)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < (blanks ? 0x20 : 0x21) || c > 0x7e)
            return false;
    }
    return true;
}

static bool target_is_sound(struct slice target)
{
    // Characters that no path may hold unescaped (RFC 3986 section 2); the strict proxy refuses some of them.
    static const char FORBIDDEN[] = "\"<>\\^`{|}#";
    if (target.len == 0 || target.len > LOAD_PATH_BYTES_MAX || target.data[0] != '/' ||
        !is_visible(target, false))
        return false;
    for (size_t i = 0; i < target.len; i++)
        if (strchr(FORBIDDEN, target.data[i]) != NULL)
            return false;
    return true;
}

// Copies a slice into the storage as a string.
static const char *keep(char **at, struct slice text)
{
    char *begin = *at;
    memcpy(begin, text.data, text.len);
    begin[text.len] = '\0';
    *at = begin + text.len + 1;
    return begin;
}

static uint32_t count_lines(struct slice text)
{
    uint32_t lines = 1;
    for (size_t i = 0; i < text.len && lines < LOAD_REQUESTS_MAX; i++)
        lines += text.data[i] == '\n';
    return lines;
}

static void take_line(struct slice line, struct load_log *log, char **at)
{
    struct fields f;
    if (!split_line(line, &f)) {
        log->skipped_malformed += line.len > 0;
        return;
    }
    if (!method_is_safe(f.method)) {
        log->skipped_method++;
        return;
    }
    if (!target_is_sound(f.target)) {
        log->skipped_target++;
        return;
    }
    log->requests[log->count++] = (struct load_request){
        .method = keep(at, f.method),
        .path = keep(at, f.target),
        .agent = f.agent.len > 1 && is_visible(f.agent, true) ? keep(at, f.agent) : NULL,
        .session = is_visible(f.client, false) ? keep(at, f.client) : NULL,
    };
}

enum status load_log_parse(struct slice text, struct load_log *out)
{
    struct load_log log = {0};
    uint32_t lines = count_lines(text);
    log.requests = heap_alloc(lines, sizeof *log.requests);
    // The four strings of a line with their NULs fit into the line's length, because they replace the quotes
    // and blanks between them.
    log.storage = heap_alloc(text.len + 8, 1);
    if (log.requests == NULL || log.storage == NULL) {
        load_log_free(&log);
        return STATUS_NO_MEMORY;
    }
    char *at = log.storage;
    for (uint32_t i = 0; i < lines && text.len > 0; i++)
        take_line(next_line(&text), &log, &at);
    if (log.count == 0) {
        load_log_free(&log);
        return STATUS_INVALID;
    }
    *out = log;
    return STATUS_OK;
}

void load_log_free(struct load_log *log)
{
    heap_free(log->requests);
    heap_free(log->storage);
    *log = (struct load_log){0};
}
