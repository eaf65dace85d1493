// SPDX-License-Identifier: Apache-2.0
// `sluice certificate`: a certificate that signs itself, for first tries with TLS.
#include <string.h>

#include "base/check.h"
#include "daemon/cli/cli_private.h"
#include "daemon/cli/shown.h"
#include "net/tls/tls.h"

enum { DAYS_DEFAULT = 90, DAYS_MAX = 3650 };

// "shop.example" and shop.example.pem; a wildcard's star is no letter for a file.
static bool write_paths(const struct cli_call *call, char *certificate, char *key, size_t cap)
{
    const char *stem = cli_value(call, "out");
    if (stem == NULL)
        stem = strncmp(call->args[0], "*.", 2) == 0 ? call->args[0] + 2 : call->args[0];
    int a = snprintf(certificate, cap, "%s.pem", stem), b = snprintf(key, cap, "%s.key", stem);
    return a > 0 && (size_t)a < cap && b > 0 && (size_t)b < cap;
}

int cli_run_certificate(const struct cli_call *call)
{
    char certificate[TLS_PATH_BYTES], key[TLS_PATH_BYTES];
    const char *names[CLI_ARGS_MAX + 1] = {NULL};
    struct fault fault;
    double days;
    if (cli_value_number(call, "days", DAYS_DEFAULT, &days) != STATUS_OK)
        return CLI_EXIT_USAGE;
    if (days < 1 || days > DAYS_MAX || !write_paths(call, certificate, key, sizeof key)) {
        fprintf(call->err,
                "sluice certificate: --days is 1 to %d, and the file's name is to fit into a path\n",
                DAYS_MAX);
        return CLI_EXIT_USAGE;
    }
    for (size_t i = 0; i < call->arg_count; i++)
        names[i] = call->args[i];
    enum status status = tls_self_signed(names, (int)days, certificate, key, &fault);
    if (status != STATUS_OK) {
        fprintf(call->err, "sluice certificate: %s\n", cli_told(fault.text));
        return status == STATUS_IO ? CLI_EXIT_UNREADABLE : CLI_EXIT_NO;
    }
    fprintf(call->out,
            "Wrote %s and %s, good for %g days. For the file:\n\n"
            "listen: [{address: \"0.0.0.0:8443\", tls: {certificate: %s, key: %s}}]\n\n"
            "Nobody but you vouches for it: give %s to clients that are to believe it (curl --cacert).\n",
            cli_shown(certificate), cli_shown(key), days, cli_shown(certificate), cli_shown(key),
            cli_shown(certificate));
    return CLI_EXIT_OK;
}
