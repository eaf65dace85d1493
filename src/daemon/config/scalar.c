// SPDX-License-Identifier: Apache-2.0
// One value into its target, by its kind. Every refusal says what was expected, with an example.
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/check.h"
#include "daemon/config/config_private.h"

enum { NUMBER_BYTES = 32, PREFIX_BITS_IPV4 = 32, PREFIX_BITS_IPV6 = 128 };

// What a reading of one value goes through.
struct value {
    struct config_reader *reader;
    const struct config_word *word;
    const struct config_node *node;
    void *target;
};

static void expected(const struct value *value, const char *what)
{
    config_error_at(value->reader, value->node, "'%s' wants %s, not '%s'", value->word->word, what,
                    config_show(value->node->text).text);
}

static bool all_of(struct slice text, bool (*good)(char c))
{
    for (size_t i = 0; i < text.len; i++)
        if (!good(text.data[i]))
            return false;
    return true;
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (slice_lower_char(c) >= 'a' && slice_lower_char(c) <= 'z');
}

static bool is_name_char(char c)
{
    return is_alnum(c) || c == '.' || c == '_' || c == '-';
}

static bool is_token_char(char c)
{
    return is_alnum(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_path_char(char c)
{
    return c > ' ' && c < 0x7f && c != '?' && c != '#';
}

// ---- texts ----

static bool text_fits(const struct value *value)
{
    if (value->node->text.len < value->word->size)
        return true;
    config_error_at(value->reader, value->node, "'%s' is too long: %zu characters, at most %zu are possible",
                    value->word->word, value->node->text.len, value->word->size - 1);
    return false;
}

static void text_store(const struct value *value)
{
    char *target = value->target;
    memcpy(target, value->node->text.data, value->node->text.len);
    target[value->node->text.len] = '\0';
}

static void name_read(const struct value *value)
{
    struct slice text = value->node->text;
    if (text.len == 0 || text.len >= CONFIG_NAME_BYTES || !all_of(text, is_name_char))
        config_error_at(
            value->reader, value->node,
            "'%s' is not a name; a name has 1 to %d letters, digits, dots, underscores or hyphens",
            config_show(text).text, CONFIG_NAME_BYTES - 1);
    else
        text_store(value);
}

static void token_read(const struct value *value)
{
    if (value->node->text.len == 0 || !all_of(value->node->text, is_token_char))
        expected(value, "the name of a cookie or header, such as sid or X-User");
    else if (text_fits(value))
        text_store(value);
}

static void file_read(const struct value *value)
{
    if (value->node->text.len == 0)
        expected(value, "the path of a file");
    else if (!config_place_path(value->reader, value->node->text, value->target, value->word->size))
        config_error_at(value->reader, value->node, "'%s' is too long: a path has at most %zu characters",
                        value->word->word, value->word->size - 1);
}

static void line_read(const struct value *value)
{
    bool one_line = value->node->text.len > 0;
    for (size_t i = 0; i < value->node->text.len; i++)
        one_line = one_line && (unsigned char)value->node->text.data[i] >= ' ';
    if (!one_line)
        expected(value, "a text of one line");
    else if (text_fits(value))
        text_store(value);
}

static void body_read(const struct value *value)
{
    struct slice text = value->node->text;
    if (memchr(text.data, '\0', text.len) != NULL)
        expected(value, "a text without zero bytes");
    else if (text_fits(value))
        text_store(value);
}

static void url_read(const struct value *value)
{
    struct slice text = value->node->text;
    if (!slice_starts_with(text, SLICE("http://")) && !slice_starts_with(text, SLICE("https://")))
        expected(value, "an address that begins with http:// or https://");
    else
        line_read(value);
}

static void path_read(const struct value *value)
{
    struct slice text = value->node->text;
    if (text.len == 0 || text.data[0] != '/' || !all_of(text, is_path_char))
        expected(value, "a path that begins with '/', without '?' or '#'");
    else if (text_fits(value))
        text_store(value);
}

// Labels of letters, digits and hyphens, split by dots (RFC 1123 2.1), underscores allowed as in container
// names.
static bool is_host(struct slice text)
{
    if (text.len == 0 || text.len > 253 || text.data[0] == '.' || text.data[0] == '-')
        return false;
    for (size_t i = 1; i < text.len; i++)
        if (text.data[i] == '.' && text.data[i - 1] == '.')
            return false;
    return all_of(text, is_name_char);
}

static void host_read(const struct value *value)
{
    struct slice text = value->node->text;
    struct slice name = text;
    if (slice_starts_with(text, SLICE("*."))) {
        name.data += 2;
        name.len -= 2;
    }
    bool bracketed = text.len > 2 && text.data[0] == '[' && text.data[text.len - 1] == ']';
    if (slice_equal(text, SLICE("*")))
        return;
    if (!bracketed && !is_host(name)) {
        expected(value, "a host name without scheme and port, such as shop.example or *.shop.example");
        return;
    }
    if (!text_fits(value))
        return;
    text_store(value);
    for (char *at = value->target; *at != '\0'; at++)
        *at = slice_lower_char(*at);
}

// ---- numbers ----

static void count_store(const struct value *value, uint64_t count)
{
    if (value->word->size == sizeof(uint32_t))
        *(uint32_t *)value->target = (uint32_t)count;
    else
        *(uint64_t *)value->target = count;
}

// The word for nothing, such as "off"; all bits zero is also the double 0.
static bool zero_word_taken(const struct value *value)
{
    if (value->word->zero == NULL || !slice_equal(value->node->text, slice_of(value->word->zero)))
        return false;
    count_store(value, 0);
    return true;
}

static void range_write(const struct config_word *word, uint64_t count, struct text *text)
{
    if (word->kind == CONFIG_KIND_DURATION)
        config_duration_write(count, text);
    else if (word->kind == CONFIG_KIND_WEIGHT)
        config_weight_write((uint32_t)count, text);
    else
        text_addf(text, "%llu%s", (unsigned long long)count, word->kind == CONFIG_KIND_SIZE ? "B" : "");
}

static void outside(const struct value *value)
{
    char between[96];
    struct text text = text_over(between, sizeof between);
    range_write(value->word, value->word->min, &text);
    text_add(&text, SLICE(" to "));
    range_write(value->word, value->word->max, &text);
    config_error_at(value->reader, value->node, "'%s' is outside its range: '%s', but %s is possible",
                    value->word->word, config_show(value->node->text).text, between);
}

static void quantity_read(const struct value *value, enum status status, uint64_t count, const char *what)
{
    char words[160];
    struct text text = text_over(words, sizeof words);
    text_add(&text, slice_of(what));
    if (value->word->zero != NULL)
        text_addf(&text, ", or '%s'", value->word->zero);
    if (status == STATUS_INVALID)
        expected(value, words);
    else if (status != STATUS_OK || count < value->word->min || count > value->word->max)
        outside(value);
    else
        count_store(value, count);
}

static void count_read(const struct value *value)
{
    uint64_t count = 0;
    struct slice text = value->node->text;
    enum status status = text.len == 0 ? STATUS_INVALID : STATUS_OK;
    for (size_t i = 0; i < text.len && status == STATUS_OK; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            status = STATUS_INVALID;
        else if (__builtin_mul_overflow(count, 10, &count) ||
                 __builtin_add_overflow(count, (uint64_t)(text.data[i] - '0'), &count))
            status = STATUS_RANGE;
    }
    quantity_read(value, status, count, "a whole number");
}

static void duration_read(const struct value *value)
{
    uint64_t ms = 0;
    enum status status = config_parse_duration(value->node->text, &ms);
    if (slice_equal(value->node->text, SLICE("0")))
        status = STATUS_OK;
    quantity_read(value, status, ms, "a duration with its unit, such as 500ms, 30s, 10m or 1h30m");
}

static void size_read(const struct value *value)
{
    uint64_t bytes = 0;
    enum status status = config_parse_size(value->node->text, &bytes);
    quantity_read(value, status, bytes, "a size with its unit, such as 512B, 64KiB, 64MiB or 1GiB");
}

static void weight_read(const struct value *value)
{
    uint32_t weight = 0;
    enum status status = config_parse_weight(value->node->text, &weight);
    quantity_read(value, status, weight, "a share with its %, such as 5% or 0.1%");
}

// A decimal number as people write it: no hexadecimal, no infinity, no names of numbers.
static bool decimal_parse(struct slice text, double *number)
{
    char digits[NUMBER_BYTES];
    if (text.len == 0 || text.len >= sizeof digits || strspn(text.data, "0123456789.eE+-") < text.len)
        return false;
    memcpy(digits, text.data, text.len);
    digits[text.len] = '\0';
    char *end;
    double parsed = strtod(digits, &end);
    if (end != digits + text.len || !isfinite(parsed))
        return false;
    *number = parsed;
    return true;
}

static void real_read(const struct value *value)
{
    struct slice text = value->node->text;
    bool share = value->word->kind == CONFIG_KIND_SHARE;
    double number;
    bool percent = text.len > 0 && text.data[text.len - 1] == '%';
    if (share && percent)
        text.len--;
    if (percent != share || !decimal_parse(text, &number)) {
        expected(value, share ? "a share with its %, such as 5% or 0.1%" : "a number, such as 1.25");
        return;
    }
    if (share)
        number /= 100;
    if (number < value->word->low || number > value->word->high)
        config_error_at(value->reader, value->node,
                        "'%s' is outside its range: '%s', but %g%s to %g%s is possible", value->word->word,
                        config_show(value->node->text).text, value->word->low * (share ? 100 : 1),
                        share ? "%" : "", value->word->high * (share ? 100 : 1), share ? "%" : "");
    else
        *(double *)value->target = number;
}

// ---- statuses ----

static uint32_t digits_of(const char *at)
{
    uint32_t number = 0;
    for (int i = 0; i < 3; i++) {
        if (at[i] < '0' || at[i] > '9')
            return 0;
        number = number * 10 + (uint32_t)(at[i] - '0');
    }
    return number;
}

// "5xx", "429", "404-410". False when it is none of these.
static bool statuses_parse(struct slice text, uint32_t *first, uint32_t *last)
{
    if (text.len == 3 && text.data[1] == 'x' && text.data[2] == 'x') {
        *first = (uint32_t)(text.data[0] - '0') * 100;
        *last = *first + 99;
        return text.data[0] >= '0' && text.data[0] <= '9';
    }
    bool range = text.len == 7 && text.data[3] == '-';
    if (!range && text.len != 3)
        return false;
    *first = digits_of(text.data);
    *last = range ? digits_of(text.data + 4) : *first;
    return *first > 0 && *last > 0;
}

static void statuses_read(const struct value *value)
{
    uint32_t first, last;
    if (!statuses_parse(value->node->text, &first, &last) || first < 200 || last > 599 || first > last) {
        expected(value, "statuses from 200 to 599, such as 5xx, 429 or 404-410");
        return;
    }
    const struct config_status_range range = {(uint16_t)first, (uint16_t)last};
    memcpy(value->target, &range, sizeof range);
}

// ---- choices ----

static void choice_read(const struct value *value)
{
    const char *words[16];
    size_t count = 0;
    for (const struct config_choice *choice = value->word->choices; choice->word != NULL; choice++) {
        CHECK(count < ARRAY_LEN(words));
        words[count++] = choice->word;
        if (!slice_equal(slice_of(choice->word), value->node->text))
            continue;
        if (value->word->size == sizeof(bool))
            *(bool *)value->target = choice->value != 0;
        else
            memcpy(value->target, &choice->value, sizeof choice->value);
        return;
    }
    char message[CONFIG_MESSAGE_BYTES];
    struct text text = text_over(message, sizeof message);
    text_addf(&text, "'%s' wants ", value->word->word);
    for (size_t i = 0; i < count; i++)
        text_addf(&text, "%s%s", i == 0 ? "" : i + 1 == count ? " or " : ", ", words[i]);
    text_addf(&text, ", not '%s'", config_show(value->node->text).text);
    config_hint_write(&text, value->node->text, words, count);
    config_error_at(value->reader, value->node, "%s", message);
}

// ---- addresses ----

static uint32_t port_of(const struct io_addr *addr)
{
    if (addr->any.sa_family == AF_UNIX)
        return 1;
    struct sockaddr_in in;
    memcpy(&in, addr->bytes, sizeof in);
    return ntohs(in.sin_port); // at the same place in an IPv6 address
}

static const char *address_hint(struct slice text)
{
    if (memmem(text.data, text.len, "://", 3) != NULL)
        return "; leave the scheme (http://) away";
    if (slice_starts_with(text, SLICE("unix:")))
        return "; a unix address is unix: and a path of at most 107 characters";
    if (memchr(text.data, '/', text.len) != NULL)
        return "; a path belongs under 'routes', and a unix socket is written unix:/path";
    if (memchr(text.data, ':', text.len) == NULL)
        return "; the port is missing";
    return "";
}

static void address_refused(const struct value *value)
{
    bool listen = value->word->kind == CONFIG_KIND_LISTEN;
    config_error_at(value->reader, value->node,
                    "'%s' is not an address; such as %s, [::1]:9001 or unix:/run/app.sock%s",
                    config_show(value->node->text).text,
                    listen ? "0.0.0.0:8080, 127.0.0.1:8080"
                           : "10.0.0.1:9001, app.internal:9001, srv:_http._tcp.app.internal",
                    address_hint(value->node->text));
}

// The path of a unix address is one of the file, too. False: it does not fit.
static bool unix_place(struct config_reader *reader, struct slice text, struct config_address *address)
{
    static const size_t scheme = sizeof "unix:" - 1;
    if (!slice_starts_with(text, SLICE("unix:")) || text.len == scheme)
        return true;
    return config_place_path(reader, (struct slice){text.data + scheme, text.len - scheme},
                             address->text + scheme, sizeof address->text - scheme);
}

static void address_read(const struct value *value)
{
    bool listen = value->word->kind == CONFIG_KIND_LISTEN;
    struct slice text = value->node->text;
    struct config_address address = {.literal = false};
    if (text.len == 0 || text.len >= sizeof address.text) {
        address_refused(value);
        return;
    }
    memcpy(address.text, text.data, text.len);
    if (!unix_place(value->reader, text, &address)) {
        address_refused(value);
        return;
    }
    struct names_text name;
    const char *why = NULL;
    address.literal = io_addr_parse(address.text, &address.addr) == STATUS_OK;
    bool usable = address.literal ? listen || port_of(&address.addr) > 0
                                  : !listen && strlen(address.text) == text.len &&
                                        names_parse(address.text, &name, &why) == STATUS_OK;
    if (!usable && why != NULL && address_hint(text)[0] == '\0')
        config_error_at(value->reader, value->node, "'%s' cannot be looked up: %s", config_show(text).text,
                        why);
    else if (!usable && address.literal)
        config_error_at(value->reader, value->node, "'%s' has port 0, to which nobody can connect",
                        address.text);
    else if (!usable)
        address_refused(value);
    else
        memcpy(value->target, &address, sizeof address);
}

bool config_is_loopback(const struct io_addr *addr)
{
    if (addr->any.sa_family == AF_UNIX)
        return true;
    if (addr->any.sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, addr->bytes, sizeof in);
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    struct sockaddr_in6 in6;
    memcpy(&in6, addr->bytes, sizeof in6);
    return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
}

bool config_address_same(const struct config_address *a, const struct config_address *b)
{
    return a->literal && b->literal && a->addr.len == b->addr.len &&
           memcmp(a->addr.bytes, b->addr.bytes, a->addr.len) == 0;
}

static bool prefix_parse(struct slice text, uint32_t max, uint8_t *bits)
{
    uint32_t number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || i > 2)
            return false;
        number = number * 10 + (uint32_t)(text.data[i] - '0');
    }
    if (text.len == 0 || number > max)
        return false;
    *bits = (uint8_t)number;
    return true;
}

static bool bits_below_are_zero(const uint8_t address[16], uint32_t prefix_bits)
{
    for (uint32_t bit = prefix_bits; bit < PREFIX_BITS_IPV6; bit++)
        if ((address[bit / 8] >> (7 - bit % 8)) & 1)
            return false;
    return true;
}

static bool network_parse(struct slice text, struct config_network *network)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const char *slash = memchr(text.data, '/', text.len);
    struct slice host = {text.data, slash == NULL ? text.len : (size_t)(slash - text.data)};
    char host_text[64];
    if (host.len >= sizeof host_text || text.len >= sizeof network->text)
        return false;
    memcpy(host_text, host.data, host.len);
    host_text[host.len] = '\0';
    bool ipv6 = memchr(host.data, ':', host.len) != NULL;
    uint32_t max = ipv6 ? PREFIX_BITS_IPV6 : PREFIX_BITS_IPV4;
    uint8_t bits = (uint8_t)max;
    if (slash != NULL && !prefix_parse((struct slice){slash + 1, text.len - host.len - 1}, max, &bits))
        return false;
    if (inet_pton(ipv6 ? AF_INET6 : AF_INET, host_text, network->address + (ipv6 ? 0 : 12)) != 1)
        return false;
    if (!ipv6)
        memcpy(network->address, mapped, sizeof mapped);
    network->prefix_bits = (uint8_t)(bits + PREFIX_BITS_IPV6 - max);
    memcpy(network->text, text.data, text.len);
    return true;
}

static void network_read(const struct value *value)
{
    struct config_network network = {.prefix_bits = 0};
    if (!network_parse(value->node->text, &network))
        expected(value, "a network, such as 10.0.0.0/8, 192.168.1.7 or fd00::/8");
    else if (!bits_below_are_zero(network.address, network.prefix_bits))
        expected(value, "a network whose address is zero behind the prefix, such as 10.0.0.0/8");
    else
        memcpy(value->target, &network, sizeof network);
}

static void kind_read(const struct value *value)
{
    static void (*const readers[])(const struct value *) = {
        [CONFIG_KIND_NAME] = name_read,         [CONFIG_KIND_TOKEN] = token_read,
        [CONFIG_KIND_FILE] = file_read,         [CONFIG_KIND_HOST] = host_read,
        [CONFIG_KIND_PATH] = path_read,         [CONFIG_KIND_COUNT] = count_read,
        [CONFIG_KIND_DURATION] = duration_read, [CONFIG_KIND_SIZE] = size_read,
        [CONFIG_KIND_WEIGHT] = weight_read,     [CONFIG_KIND_SHARE] = real_read,
        [CONFIG_KIND_NUMBER] = real_read,       [CONFIG_KIND_CHOICE] = choice_read,
        [CONFIG_KIND_LISTEN] = address_read,    [CONFIG_KIND_ENDPOINT] = address_read,
        [CONFIG_KIND_NETWORK] = network_read,   [CONFIG_KIND_TEXT] = line_read,
        [CONFIG_KIND_BODY] = body_read,         [CONFIG_KIND_URL] = url_read,
        [CONFIG_KIND_STATUSES] = statuses_read,
    };
    CHECK((size_t)value->word->kind < ARRAY_LEN(readers) && readers[value->word->kind] != NULL);
    readers[value->word->kind](value);
}

void config_scalar_read(struct config_reader *reader, const struct config_word *word,
                        const struct config_node *node, void *target)
{
    struct value value = {.reader = reader, .word = word, .node = node, .target = target};
    if (node->kind != CONFIG_NODE_SCALAR) {
        config_error_at(reader, node, "'%s' wants one value, not a %s", word->word,
                        node->kind == CONFIG_NODE_LIST ? "list" : "mapping");
        return;
    }
    if (config_node_is_null(node)) {
        config_error_at(reader, node, "'%s' has no value", word->word);
        return;
    }
    if (!zero_word_taken(&value))
        kind_read(&value);
}
