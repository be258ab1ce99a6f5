// What the tours of the JavaScript SDKs share: how an SDK is loaded, refusals, waiting, the last line.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

/** Load a package from the folder that it was installed into. */
export function load(folder, name) {
  return createRequire(`${folder}/`)(name);
}

/** Await a call that must be refused; the SDK must show code, type and body of the refusal. */
export async function refused(code, type, call) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    assert.deepEqual([error.code, error.type], [code, type], error.message);
    assert.deepEqual(Object.keys(error.response), ['message', 'code', 'type', 'version']);
    assert.deepEqual([error.response.message, error.response.code], [error.message, code]);
    return;
  }
  assert.fail(`expected ${code} ${type}, got ${JSON.stringify(answer)}`);
}

/** Ask until the answer is as it should be, and return it. */
export async function eventually(question, condition = Boolean) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const answer = await question();
    if (condition(answer)) {
      return answer;
    }
    assert.ok(Date.now() < deadline, `still ${JSON.stringify(answer)}`);
    await sleep(50);
  }
}

/** Say that the whole tour was made, and end: an SDK's open socket keeps nobody waiting. */
export function complete() {
  console.log('the tour is complete');
  process.exit(0);
}
