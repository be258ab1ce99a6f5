// A tour of the Functions service through an official `node-appwrite`, by the SDK's own methods.
//
//   node node_tour.mjs SDK ENDPOINT PROJECT KEY RUNTIME ARCHIVE LARGE_ARCHIVE DIGEST
//
// SDK is the folder that the package was installed into. DIGEST is what the function in LARGE_ARCHIVE answers: the
// SHA-256 of the file beside it, in hexadecimal.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { complete, eventually, load, refused } from './touring.mjs';

const [folder, endpoint, project, key, runtime, archive, large, digest] = process.argv.slice(2);
const sdk = load(folder, 'node-appwrite');
const functions = new sdk.Functions(client(project, key));

// The generations differ in how they take a file and in how dates are called.
const isOld = sdk.InputFile === undefined;
const file = (path) => (isOld ? path : sdk.InputFile.fromPath(path, basename(path)));
const created = isOld ? 'dateCreated' : '$createdAt';
const CHUNK = 5 * 1024 * 1024;

function client(project, key) {
  return new sdk.Client().setEndpoint(endpoint).setProject(project).setKey(key);
}

const ids = (list) => list.map((item) => item.$id);
const isBuilt = (deployment) => ['ready', 'failed'].includes(deployment.status);
const isOver = (execution) => ['completed', 'failed'].includes(execution.status);

async function built(functionId, deployment) {
  const shown = await eventually(() => functions.getDeployment(functionId, deployment.$id), isBuilt);
  assert.equal(shown.status, 'ready', shown.buildStderr);
  return shown;
}

async function makeFunctions() {
  const vars = { GREETING: 'Hello' };
  const made = await functions.create(
    'unique()', 'Node tour', ['role:all'], runtime, vars, ['users.*.create'], '0 0 1 1 *', 10
  );
  const id = made.$id;
  assert.match(id, /^[0-9a-f]{20}$/);
  assert.deepEqual([made.name, made.runtime, made.deployment], ['Node tour', runtime, '']);
  assert.deepEqual([made.execute, made.vars, made.events], [['role:all'], vars, ['users.*.create']]);
  assert.deepEqual([made.schedule, made.timeout], ['0 0 1 1 *', 10]);
  await refused(409, 'function_already_exists', () => functions.create(id, 'Again', [], runtime));
  await refused(400, 'general_argument_invalid', () => functions.create('x'.repeat(40), 'Bad', [], runtime));
  await refused(400, 'general_argument_invalid', () => functions.create('other', 'Bad', [], 'cobol-85'));
  await refused(400, 'general_argument_invalid', () => functions.create('other', 'Bad', ['*'], runtime));
  const other = await functions.create(`second-${id.slice(0, 8)}`, 'Second', [], runtime);
  assert.deepEqual(other.vars, {});
  return [id, other.$id];
}

async function listFunctions(id, otherId) {
  const all = await functions.list();
  assert.deepEqual([all.total, ids(all.functions)], [2, [id, otherId]]);
  for (const search of [id, 'tour']) {
    const found = await functions.list(search);
    assert.deepEqual([found.total, ids(found.functions)], [1, [id]]);
  }
  assert.deepEqual(ids((await functions.list(undefined, 1, 1)).functions), [otherId]);
  const backwards = await functions.list(undefined, undefined, undefined, undefined, undefined, 'DESC');
  assert.deepEqual(ids(backwards.functions), [otherId, id]);
  assert.deepEqual(ids((await functions.list(undefined, 1, 0, id)).functions), [otherId]);
  assert.deepEqual(ids((await functions.list(undefined, 1, 0, id, 'after')).functions), [otherId]);
  assert.deepEqual(ids((await functions.list(undefined, 1, 0, otherId, 'before')).functions), [id]);
  await refused(400, 'general_cursor_not_found', () => functions.list(undefined, 1, 0, 'unknown'));
  await refused(400, 'general_argument_invalid', () => functions.list(undefined, 101));

  assert.equal((await functions.get(id)).name, 'Node tour');
  await refused(404, 'function_not_found', () => functions.get('unknown'));

  const { total, runtimes } = await functions.listRuntimes();
  assert.equal(total, runtimes.length);
  assert.ok(ids(runtimes).includes(runtime), JSON.stringify(runtimes));
  for (const one of runtimes) {
    assert.deepEqual(Object.keys(one).slice(0, 7), ['$id', 'name', 'version', 'base', 'image', 'logo', 'supports']);
  }
}

async function updateFunction(id) {
  const updated = await functions.update(id, 'Renamed', ['role:all'], { GREETING: 'Hi' });
  assert.deepEqual([updated.name, updated.vars, updated.runtime], ['Renamed', { GREETING: 'Hi' }, runtime]);
  assert.deepEqual([updated.events, updated.schedule, updated.timeout], [[], '', 15]);
  await refused(400, 'general_argument_invalid', () => functions.update(id, '', []));
  await refused(404, 'function_not_found', () => functions.update('unknown', 'Name', []));
}

/** The newer SDK sends from within a stream, where nobody can catch what it throws. */
async function refusedUpload(code, type, ...upload) {
  await refused(code, type, async () => {
    const unhandled = isOld ? [] : once(process, 'unhandledRejection');
    const answer = functions.createDeployment(...upload);
    if (isOld) {
      return answer;
    }
    throw (await unhandled)[0];
  });
}

async function deploy(id) {
  await refused(404, 'deployment_not_found', () => functions.createExecution(id, 'x', false));
  await refusedUpload(404, 'function_not_found', 'unknown', 'main.py', file(archive), true);
  await refusedUpload(400, 'storage_file_type_unsupported', id, 'main.py', file(process.argv[1]), true);

  const first = await functions.createDeployment(id, 'main.py', file(archive), true);
  assert.deepEqual([first.resourceId, first.resourceType, first.entrypoint], [id, 'functions', 'main.py']);
  assert.deepEqual([first.activate, first.size], [true, statSync(archive).size]);
  assert.ok(Number.isInteger(first[created]), JSON.stringify(first));
  await built(id, first);
  assert.equal((await functions.get(id)).deployment, first.$id);

  const second = await functions.createDeployment(id, 'main.py', file(archive), false);
  assert.equal(second.activate, false);
  const { buildId } = await built(id, second);
  assert.equal((await functions.get(id)).deployment, first.$id);
  assert.equal((await functions.updateDeployment(id, second.$id)).deployment, second.$id);
  await refused(404, 'deployment_not_found', () => functions.updateDeployment(id, 'unknown'));
  await refused(404, 'deployment_not_found', () => functions.getDeployment(id, 'unknown'));
  await refused(400, 'build_in_progress', () => functions.retryBuild(id, second.$id, buildId));
  await refused(404, 'build_not_found', () => functions.retryBuild(id, second.$id, 'unknown'));

  const listed = await functions.listDeployments(id);
  assert.deepEqual([listed.total, ids(listed.deployments)], [2, [first.$id, second.$id]]);
  assert.deepEqual(listed.deployments.map((one) => one.status), ['ready', 'ready']);
  const found = await functions.listDeployments(id, second.$id);
  assert.deepEqual([found.total, ids(found.deployments)], [1, [second.$id]]);
  return [first.$id, second.$id];
}

async function execute(id, deploymentId) {
  const done = await functions.createExecution(id, 'Ada êä', false);
  assert.deepEqual([done.status, done.statusCode, done.stderr, done.trigger], ['completed', 200, '', 'http']);
  assert.deepEqual([done.functionId, done.$read], [id, []]);
  assert.ok(done.time > 0 && done.time < 10, JSON.stringify(done));
  assert.ok(Number.isInteger(done[created]), JSON.stringify(done));
  assert.deepEqual(JSON.parse(done.response), { message: 'Hi, Ada êä', environment: [id, deploymentId, 'http'] });

  const waiting = await functions.createExecution(id, 'Bob');
  assert.deepEqual([waiting.status, waiting.statusCode, waiting.response, waiting.time], ['waiting', 0, '', 0]);
  const later = await eventually(() => functions.getExecution(id, waiting.$id), isOver);
  assert.equal(later.status, 'completed', later.stderr);
  assert.equal(JSON.parse(later.response).message, 'Hi, Bob');

  const listed = await functions.listExecutions(id);
  assert.deepEqual([listed.total, ids(listed.executions)], [2, [waiting.$id, done.$id]]);
  const found = await functions.listExecutions(id, undefined, undefined, done.$id);
  assert.deepEqual([found.total, ids(found.executions)], [1, [done.$id]]);
  const next = await functions.listExecutions(id, 1, 0, undefined, waiting.$id);
  assert.deepEqual(ids(next.executions), [done.$id]);
  const before = await functions.listExecutions(id, 1, 0, undefined, done.$id, 'before');
  assert.deepEqual(ids(before.executions), [waiting.$id]);
  await refused(404, 'execution_not_found', () => functions.getExecution(id, 'unknown'));
  await refused(404, 'function_not_found', () => functions.createExecution('unknown', '', false));
  await refused(400, 'general_argument_invalid', () => functions.createExecution(id, 'x'.repeat(8193), false));
}

/** An archive that is sent in three chunks arrives as it was. */
async function deployLarge(id) {
  const { size } = statSync(large);
  const sent = [];
  const deployment = await functions.createDeployment(id, 'main.py', file(large), true, (chunk) => sent.push(chunk));
  assert.deepEqual(ids(sent), Array(3).fill(deployment.$id));
  assert.deepEqual(sent.map((chunk) => chunk.sizeUploaded), [CHUNK, 2 * CHUNK, size + 1]);
  assert.deepEqual(sent.map((chunk) => [chunk.chunksUploaded, chunk.chunksTotal]), [[1, 3], [2, 3], [3, 3]]);
  assert.equal(deployment.size, size);
  await built(id, deployment);
  const active = await functions.get(id);
  assert.equal(active.deployment, deployment.$id);
  const listed = await functions.listDeployments(id);
  assert.deepEqual([listed.total, listed.deployments[0].size], [1, size]);
  const done = await functions.createExecution(id, '', false);
  assert.deepEqual([done.status, done.response], ['completed', digest], done.stderr);
}

/** A server may act for a user: what the user's token lets it do and no more, though it has a key as well. */
async function actFor(user, id) {
  const json = { 'content-type': 'application/json' };
  const { jwt } = await client(project, key).call('post', `/users/${user}/jwts`, json, { duration: 60 });
  const theirs = new sdk.Functions(client(project, key).setJWT(jwt));
  const done = await theirs.createExecution(id, 'Ada', false);
  assert.deepEqual([done.status, done.$read], ['completed', [`user:${user}`]], done.stderr);
  const listed = await theirs.listExecutions(id);
  assert.deepEqual([listed.total, ids(listed.executions)], [1, [done.$id]]);
  assert.equal((await functions.listExecutions(id)).total, 3);
  await refused(401, 'general_unauthorized_scope', () => theirs.get(id));
}

async function remove(id, otherId, deploymentIds) {
  for (const deploymentId of deploymentIds) {
    assert.equal(await functions.deleteDeployment(id, deploymentId), '');
    await refused(404, 'deployment_not_found', () => functions.getDeployment(id, deploymentId));
  }
  assert.equal((await functions.get(id)).deployment, '');
  for (const name of [id, otherId]) {
    assert.equal(await functions.delete(name), '');
    await refused(404, 'function_not_found', () => functions.get(name));
  }
  assert.equal((await functions.list()).total, 0);
}

const [id, otherId] = await makeFunctions();
await listFunctions(id, otherId);
await updateFunction(id);
const deploymentIds = await deploy(id);
await execute(id, deploymentIds[1]);
await actFor('ada', id);
await deployLarge(otherId);
await remove(id, otherId, deploymentIds);
const wrong = new sdk.Functions(client(project, 'wrong'));
await refused(401, 'general_unauthorized_scope', () => wrong.list());
const lost = new sdk.Functions(client('unknown', key));
await refused(404, 'project_not_found', () => lost.list());
complete();
