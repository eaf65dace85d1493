// SPDX-License-Identifier: Apache-2.0
// Orders come as lines of JSON on standard input and are answered in order, one line each, on standard output.
import { createInterface } from 'node:readline';

export async function serve(orders) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { order, ...words } = JSON.parse(line);
    let answer;
    try {
      answer = { result: (await orders[order](words)) ?? null };
    } catch (error) {
      answer = { thrown: `${error.name}: ${error.message}` };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
}

// Asks one of the SDK's clients; the details as an application sees them.
export async function details(client, { kind, key, fallback, context }) {
  const ask = {
    boolean: client.getBooleanDetails,
    string: client.getStringDetails,
    number: client.getNumberDetails,
    object: client.getObjectDetails,
  }[kind];
  const found = await ask.call(client, key, fallback, context);
  return {
    value: found.value,
    variant: found.variant ?? null,
    reason: found.reason,
    error: found.errorCode ?? null,
    message: found.errorMessage ?? null,
    metadata: found.flagMetadata ?? {},
  };
}
