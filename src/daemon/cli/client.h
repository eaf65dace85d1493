// SPDX-License-Identifier: Apache-2.0
// Asks a running daemon over its admin address.
#pragma once

#include <jansson.h>

#include "daemon/cli/cli_private.h"

#define CLI_ADMIN_DEFAULT "127.0.0.1:9440"

enum { CLI_ANSWER_BYTES_MAX = 256 * 1024 * 1024 };

struct cli_client;

// admin: --admin, else SLUICE_ADMIN, else CLI_ADMIN_DEFAULT. NULL when out of memory.
struct cli_client *cli_client_open(const char *admin);
void cli_client_close(struct cli_client *client);
const char *cli_client_admin(const struct cli_client *client);
// STATUS_OK with the parsed answer (the caller's reference) and its HTTP status, whatever that is;
// UNREACHABLE, TIMEOUT, RESET (closed before the answer was whole), INVALID (no JSON came).
MUST_USE enum status cli_client_get(struct cli_client *client, const char *path, unsigned *http,
                                    json_t **answer);
MUST_USE enum status cli_client_post(struct cli_client *client, const char *path, json_t *body,
                                     unsigned *http, json_t **answer);
// Any method, with a body that is sent as it is (empty: none) and the name of who asks (NULL: none).
MUST_USE enum status cli_client_send(struct cli_client *client, const char *method, const char *path,
                                     struct slice body, const char *who, unsigned *http, json_t **answer);
// The bytes of the last answer, until the next request.
struct slice cli_client_body(const struct cli_client *client);
// The address a call names, by its option, environment or default.
const char *cli_admin_of(const struct cli_call *call);
// Says that the daemon does not answer and what to do; returns CLI_EXIT_UNREACHABLE.
int cli_say_unreachable(const struct cli_call *call, const struct cli_client *client, enum status status);
// Prints the daemon's error; returns CLI_EXIT_NO.
int cli_say_refused(const struct cli_call *call, unsigned http, const json_t *answer);
// The unix user (and real user behind sudo), for the journal.
void cli_who(char *who, size_t cap);
