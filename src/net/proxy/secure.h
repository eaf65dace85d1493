// SPDX-License-Identifier: Apache-2.0
// What the listeners with TLS answer with: a server of each worker for each of them. Tables hold it, so that
// new certificates come with a new table, and the old ones go when no worker has the old table any more.
#pragma once

#include "net/tls/tls.h"

struct proxy_tls;

// configs[i] NULL: listener i has what it had in `before` (NULL: nothing). All are borrowed for the call.
// Held once, by the caller. As tls_server_create.
MUST_USE enum status proxy_tls_create(const struct tls_server_config *const *configs, uint32_t listeners,
                                      uint32_t workers, const struct proxy_tls *before,
                                      struct tls_tickets *tickets, struct tls_counts *counts,
                                      struct proxy_tls **made, struct fault *fault);
void proxy_tls_hold(struct proxy_tls *tls); // NULL is allowed in this and the next
void proxy_tls_release(struct proxy_tls *tls);
// When the first certificate of all ends, milliseconds since 1970.
int64_t proxy_tls_expires_ms(const struct proxy_tls *tls);
// NULL: none.
struct tls_server *proxy_tls_server(const struct proxy_tls *tls, uint32_t worker, uint32_t listener);
