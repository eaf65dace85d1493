// SPDX-License-Identifier: Apache-2.0
// What the vendors' own SDKs answer. A line of input is {"system", "path" of an export, "keys", "contexts"}; a line of output has, for
// each context, the answers of all keys. Nothing is asked of a network: the exports are the SDKs' data.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import LaunchDarkly from "@launchdarkly/node-server-sdk";
import integrations from "@launchdarkly/node-server-sdk/integrations";
import unleashClient from "unleash-client";

const { InMemStorageProvider, Unleash } = unleashClient;
const { FileDataSourceFactory } = integrations;
const silent = { error() {}, warn() {}, info() {}, debug() {} };

async function unleash({ path, keys, contexts }) {
    const { features, segments } = JSON.parse(readFileSync(path, "utf8"));
    const client = new Unleash({
        url: "http://127.0.0.1:9/", appName: "test", disableMetrics: true, refreshInterval: 0, skipInstanceCountWarning: true,
        storageProvider: new InMemStorageProvider(), bootstrap: { data: features, segments }, bootstrapOverride: true,
    });
    for (const event of ["error", "warn"]) client.on(event, () => {});
    await new Promise((resolve) => client.once("ready", resolve));
    const answers = contexts.map((context) =>
        keys.map((key) => {
            const variant = client.getVariant(key, context);
            return { on: client.isEnabled(key, context), variant: variant.enabled ? variant.name : null };
        }));
    client.destroy();
    return answers;
}

async function launchdarkly({ path, keys, contexts }) {
    const files = new FileDataSourceFactory({ paths: [path] });
    const client = LaunchDarkly.init("none", { updateProcessor: files.getFactory(), sendEvents: false, diagnosticOptOut: true, logger: silent });
    await client.waitForInitialization({ timeout: 10 });
    const answers = [];
    for (const context of contexts) {
        const row = [];
        for (const key of keys) {
            const detail = await client.variationDetail(key, context, null);
            row.push({ value: detail.value, reason: detail.reason });
        }
        answers.push(row);
    }
    client.close();
    return answers;
}

for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    const answers = await (order.system === "unleash" ? unleash : launchdarkly)(order);
    process.stdout.write(JSON.stringify(answers) + "\n");
}
process.exit(0);
