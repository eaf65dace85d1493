// SPDX-License-Identifier: Apache-2.0
// Questions to name servers by c-ares, and its answers turned into lists. It knows /etc/hosts, search lists,
// retries over several servers and truncated answers; what it parses is bounded here.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "net/names/names_private.h"

enum { RECORD_SRV = 33, CLASS_IN = 1, HEADER_BYTES = 12, QUESTION_BYTES = 4, RECORD_BYTES = 10 };

static const char RESOLV_CONF[] = "/etc/resolv.conf";

// ---- the channel ----

static void on_socket(void *context, ares_socket_t handle, int readable, int writable)
{
    struct asker *asker = context;
    uint32_t i = 0;
    while (i < asker->socket_count && asker->sockets[i].fd != handle)
        i++;
    short events = (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
    if (events == 0 && i < asker->socket_count)
        asker->sockets[i] = asker->sockets[--asker->socket_count];
    else if (events != 0 && i < ASK_SOCKETS_MAX) // one beyond it is not heard: its question runs out of time
        asker->sockets[i] = (struct pollfd){.fd = handle, .events = events};
    if (events != 0 && i == asker->socket_count && i < ASK_SOCKETS_MAX)
        asker->socket_count++;
}

// An address that other machines could use: without one, an IPv6 endpoint cannot be reached.
static bool has_ipv6(void)
{
    struct ifaddrs *all;
    bool found = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *at = all; at != NULL && !found; at = at->ifa_next) {
        struct sockaddr_in6 in6;
        if (at->ifa_addr == NULL || at->ifa_addr->sa_family != AF_INET6)
            continue;
        memcpy(&in6, at->ifa_addr, sizeof in6);
        found = !IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) && !IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr);
    }
    freeifaddrs(all);
    return found;
}

void ask_close(struct asker *asker)
{
    if (!asker->open)
        return;
    asker->open = false;
    ares_destroy(asker->channel); // tells every question under way that it is cancelled
    asker->socket_count = 0;
}

static bool resolv_conf_changed(struct asker *asker)
{
    struct stat now = {.st_size = 0};
    const char *path = asker->resolv_conf != NULL ? asker->resolv_conf : RESOLV_CONF;
    if (stat(path, &now) != 0)
        now = (struct stat){.st_size = 0};
    bool changed = now.st_ino != asker->stamp.st_ino || now.st_size != asker->stamp.st_size ||
                   now.st_mtim.tv_sec != asker->stamp.st_mtim.tv_sec ||
                   now.st_mtim.tv_nsec != asker->stamp.st_mtim.tv_nsec;
    asker->stamp = now;
    return changed;
}

bool ask_ready(struct asker *asker)
{
    bool changed = resolv_conf_changed(asker);
    asker->ipv6 = has_ipv6();
    if (asker->open && !changed)
        return true;
    ask_close(asker);
    char path[256];
    struct ares_options options = {.timeout = ASK_TIMEOUT_MS,
                                   .tries = ASK_TRIES,
                                   .sock_state_cb = on_socket,
                                   .sock_state_cb_data = asker,
                                   .resolvconf_path = path};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    if (asker->resolv_conf != NULL)
        mask |= ARES_OPT_RESOLVCONF;
    snprintf(path, sizeof path, "%s", asker->resolv_conf != NULL ? asker->resolv_conf : "");
    if (ares_init_options(&asker->channel, &options, mask) != ARES_SUCCESS)
        return false;
    asker->open = true;
    if (asker->servers[0] == '\0' ||
        ares_set_servers_ports_csv(asker->channel, asker->servers) == ARES_SUCCESS)
        return true;
    ask_close(asker);
    return false;
}

// ---- answers ----

// Constant text: it goes from thread to thread.
static const char *failure_words(int status)
{
    switch (status) {
    case ARES_ETIMEOUT:
        return "the name servers are silent";
    case ARES_ECONNREFUSED:
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
        return "the name servers fail or refuse (SERVFAIL, REFUSED, or none can be reached)";
    case ARES_ENOMEM:
        return "no memory left";
    default:
        return "the answer cannot be read";
    }
}

static void not_found(struct query *query, int status)
{
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED)
        follow_cancelled(query);
    else if (status == ARES_ENOTFOUND)
        follow_none(query, "there is no such name");
    else if (status == ARES_ENODATA)
        follow_none(query, query->host->srv ? "the name has no SRV record" : "the name has no address");
    else
        follow_failed(query, failure_words(status));
}

static uint32_t lesser(uint32_t a, int b)
{
    uint32_t other = b > 0 ? (uint32_t)b : 0;
    return other < a ? other : a;
}

static void on_addresses(void *context, int status, int timeouts, struct ares_addrinfo *found)
{
    struct query *query = context;
    struct address_list list = {.count = 0};
    uint32_t ttl_s = UINT32_MAX;
    (void)timeouts;
    for (const struct ares_addrinfo_node *node = found != NULL ? found->nodes : NULL; node != NULL;
         node = node->ai_next) {
        struct io_addr addr = {.len = node->ai_addrlen};
        if (node->ai_addrlen > sizeof addr.bytes)
            continue;
        memcpy(addr.bytes, node->ai_addr, node->ai_addrlen);
        address_insert(&list, &addr);
        ttl_s = lesser(ttl_s, node->ai_ttl);
    }
    for (const struct ares_addrinfo_cname *cname = found != NULL ? found->cnames : NULL; cname != NULL;
         cname = cname->next)
        ttl_s = lesser(ttl_s, cname->ttl);
    if (status == ARES_SUCCESS && list.count == 0)
        status = ARES_ENODATA;
    if (status == ARES_SUCCESS)
        follow_addresses(query, &list, ttl_s);
    else
        not_found(query, status);
    ares_freeaddrinfo(found);
}

static bool skip_name(const unsigned char **at, const unsigned char *answer, int len)
{
    char *name;
    long taken;
    if (*at >= answer + len || ares_expand_name(*at, answer, len, &name, &taken) != ARES_SUCCESS)
        return false;
    ares_free_string(name);
    *at += taken;
    return *at <= answer + len;
}

static uint32_t number_at(const unsigned char *at, size_t bytes)
{
    uint32_t number = 0;
    for (size_t i = 0; i < bytes; i++)
        number = number << 8 | at[i];
    return number;
}

// The least time to live in the answer (RFC 1035 4.1), which c-ares does not tell of SRV records; 0 for one
// that cannot be read.
static uint32_t least_ttl_s(const unsigned char *answer, int len)
{
    if (len < HEADER_BYTES)
        return 0;
    const unsigned char *at = answer + HEADER_BYTES, *end = answer + len;
    for (uint32_t i = number_at(answer + 4, 2); i > 0; i--, at += QUESTION_BYTES)
        if (!skip_name(&at, answer, len) || end - at < QUESTION_BYTES)
            return 0;
    uint32_t least = UINT32_MAX;
    for (uint32_t i = number_at(answer + 6, 2); i > 0; i--) {
        if (!skip_name(&at, answer, len) || end - at < RECORD_BYTES)
            return 0;
        uint32_t ttl_s = number_at(at + 4, 4);
        ptrdiff_t data = (ptrdiff_t)number_at(at + 8, 2);
        least = ttl_s < least ? ttl_s : least;
        if (end - at - RECORD_BYTES < data)
            return 0;
        at += RECORD_BYTES + data;
    }
    return least;
}

static void on_targets(void *context, int status, int timeouts, unsigned char *answer, int len)
{
    struct query *query = context;
    struct ares_srv_reply *found = NULL;
    struct target_list list = {.count = 0};
    (void)timeouts;
    if (status == ARES_SUCCESS)
        status = ares_parse_srv_reply(answer, len, &found);
    for (const struct ares_srv_reply *record = found; record != NULL; record = record->next) {
        struct target target = {.priority = record->priority, .port = record->port};
        size_t host_len = strlen(record->host);
        if (host_len == 0 || host_len >= sizeof target.name || record->port == 0) // "." is: no such service
            continue;
        memcpy(target.name, record->host, host_len);
        target_insert(&list, &target);
    }
    if (status == ARES_SUCCESS && list.count == 0)
        status = ARES_ENODATA;
    if (status == ARES_SUCCESS)
        follow_targets(query, &list, least_ttl_s(answer, len));
    else
        not_found(query, status);
    if (found != NULL)
        ares_free_data(found);
}

// ---- questions ----

void ask(struct asker *asker, struct query *query)
{
    struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT,
                                        .ai_family = query->question == QUESTION_IPV4 ? AF_INET : AF_INET6,
                                        .ai_socktype = SOCK_STREAM};
    if (query->question == QUESTION_SRV)
        ares_search(asker->channel, query->host->name, CLASS_IN, RECORD_SRV, on_targets, query);
    else
        ares_getaddrinfo(asker->channel, query->host->name, NULL, &hints, on_addresses, query);
}

int ask_wait_ms(struct asker *asker, int most)
{
    struct timeval limit = {.tv_sec = most / 1000, .tv_usec = most % 1000 * 1000}, storage;
    const struct timeval *wait = asker->open ? ares_timeout(asker->channel, &limit, &storage) : &limit;
    return (int)(wait->tv_sec * 1000 + (wait->tv_usec + 999) / 1000);
}

void ask_process(struct asker *asker, const struct pollfd *seen, uint32_t count)
{
    for (uint32_t i = 0; i < count && asker->open; i++) {
        bool in = (seen[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0;
        bool out = (seen[i].revents & (POLLOUT | POLLERR | POLLHUP)) != 0 && (seen[i].events & POLLOUT) != 0;
        if (in || out)
            ares_process_fd(asker->channel, in ? seen[i].fd : ARES_SOCKET_BAD,
                            out ? seen[i].fd : ARES_SOCKET_BAD);
    }
    if (asker->open)
        ares_process_fd(asker->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); // what ran out of time
}
