// SPDX-License-Identifier: Apache-2.0
// Any bytes as a configuration: a tree or errors, never both, never neither; and what loads can run.
#include <stdint.h>

#include "base/check.h"
#include "daemon/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config_errors errors;
    static char report[CONFIG_REPORT_BYTES_MAX];
    struct config *config = NULL;
    struct slice yaml = {(const char *)data, size};
    enum status status = config_load_text("fuzz.yaml", yaml, &config, &errors);
    CHECK(status == STATUS_OK || status == STATUS_INVALID);
    CHECK((status == STATUS_OK) == (config != NULL) && (status == STATUS_OK) == (errors.count == 0));
    struct text text = text_over(report, sizeof report);
    config_errors_write(&errors, &text);
    CHECK(!text.cut);
    for (uint32_t i = 0; config != NULL && i < config->rollout_count; i++) {
        struct fault fault;
        CHECK(rollout_spec_check(&config->rollouts[i].spec, &fault) == STATUS_OK);
        CHECK(config_service_find(config, config->rollouts[i].spec.service) != NULL);
    }
    config_destroy(config);
    return 0;
}
