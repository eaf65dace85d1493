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
// How long an answer may take from now on; 10 s at first.
void cli_client_limit(struct cli_client *client, long ms);
void cli_client_close(struct cli_client *client);
// STATUS_OK with the parsed answer (the caller's reference) and its HTTP status, whatever that is;
// UNREACHABLE, TIMEOUT, RESET (closed before the answer was whole), INVALID (no JSON came). The body is sent
// as it is (data NULL: none), with the name of who asks (NULL: none).
MUST_USE enum status cli_client_ask(struct cli_client *client, const char *method, const char *path,
                                    struct slice body, const char *who, unsigned *http, json_t **answer);
MUST_USE enum status cli_client_get(struct cli_client *client, const char *path, unsigned *http,
                                    json_t **answer);
// The same, telling people what went wrong: on CLI_EXIT_OK the answer, of status 200, is the caller's; else a
// message has been printed and *answer is NULL.
int cli_get(const struct cli_call *call, struct cli_client *client, const char *path, json_t **answer);
int cli_send(const struct cli_call *call, struct cli_client *client, const char *method, const char *path,
             struct slice body, json_t **answer);
// The name to keep in the journal: --who, else the unix user (and the real user behind sudo).
void cli_who(const struct cli_call *call, char *who, size_t cap);
// The bytes of the last answer, until the next request.
struct slice cli_client_body(const struct cli_client *client);
// Says that the daemon does not answer and what to do; returns CLI_EXIT_UNREACHABLE.
int cli_say_unreachable(const struct cli_call *call, const struct cli_client *client, enum status status);
// The client of a call, by its option, environment or default. On anything but CLI_EXIT_OK a message has been
// printed.
int cli_client_of(const struct cli_call *call, struct cli_client **client);
// "question [y/N]" on a terminal; false without one.
bool cli_ask_person(const struct cli_call *call, const char *question);

// ---- offline.c: what is said to a journal that no daemon holds, for its next start. Called when the daemon
// did not answer and said so; without --journal, CLI_EXIT_UNREACHABLE.
int cli_offline_rollout(const struct cli_call *call);
int cli_offline_flag_off(const struct cli_call *call);
