// SPDX-License-Identifier: Apache-2.0
#include "io/sim.h"
enum status io_sim_create(const struct io_sim_config *config, struct io_sim **sim)
{
    (void)config;
    (void)sim;
    return STATUS_UNSUPPORTED;
}
void io_sim_destroy(struct io_sim *sim)
{
    (void)sim;
}
enum status io_sim_loop_create(struct io_sim *sim, struct io_loop **loop)
{
    (void)sim;
    (void)loop;
    return STATUS_UNSUPPORTED;
}
