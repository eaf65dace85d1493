// SPDX-License-Identifier: Apache-2.0
// Names as the file writes them.
#include <string.h>

#include "net/names/names_private.h"

enum { LABEL_BYTES_MAX = 63, NAME_CHARACTERS_MAX = 253, PORT_DIGITS_MAX = 5 };

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static const char *label_fault(const char *label, size_t len, bool service)
{
    if (len == 0)
        return "a label is empty";
    if (len > LABEL_BYTES_MAX)
        return "a label is longer than 63 characters";
    if (label[0] == '-' || label[len - 1] == '-')
        return "a label begins or ends with '-'";
    if (service != (label[0] == '_'))
        return service ? "an SRV name is _service._protocol.name"
                       : "a label begins with '_', as only SRV names do";
    for (size_t i = 0; i < len; i++)
        if (!is_name_char(label[i]))
            return "a name has letters, digits, '-' and '.'";
    return NULL;
}

static const char *name_fault(const char *name, size_t len, bool srv)
{
    uint32_t labels = 0;
    if (len > 0 && name[len - 1] == '.') // the name is whole: no search list
        len--;
    if (len > NAME_CHARACTERS_MAX)
        return "a name has at most 253 characters";
    for (const char *label = name, *end = name + len; label <= end; labels++) {
        const char *dot = memchr(label, '.', (size_t)(end - label));
        size_t label_len = (size_t)((dot != NULL ? dot : end) - label);
        const char *why = label_fault(label, label_len, srv && labels < 2);
        if (why != NULL)
            return why;
        label += label_len + 1;
    }
    if (srv && labels < 3)
        return "an SRV name is _service._protocol.name";
    return NULL;
}

static bool port_parse(const char *text, uint16_t *port)
{
    uint32_t value = 0;
    size_t digits = strlen(text);
    if (digits == 0 || digits > PORT_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    *port = (uint16_t)value;
    return value > 0 && value <= UINT16_MAX;
}

enum status names_parse(const char *text, struct names_text *parsed, const char **why)
{
    static const char SRV[] = "srv:";
    struct names_text made = {.srv = strncmp(text, SRV, sizeof SRV - 1) == 0};
    const char *name = made.srv ? text + sizeof SRV - 1 : text;
    size_t len = made.srv ? strlen(name) : strcspn(name, ":");
    *why = NULL;
    if (!made.srv && (name[len] != ':' || !port_parse(name + len + 1, &made.port)))
        return STATUS_INVALID;
    if (!made.srv && strspn(name, "0123456789.") >= len) // a mistyped address
        return STATUS_INVALID;
    *why = name_fault(name, len, made.srv);
    if (*why != NULL)
        return STATUS_INVALID;
    memcpy(made.name, name, len);
    *parsed = made;
    return STATUS_OK;
}

const char *names_state_name(enum names_state state)
{
    static const char *const names[NAMES_STATES] = {"waiting", "known", "missing", "failing"};
    return names[state];
}
