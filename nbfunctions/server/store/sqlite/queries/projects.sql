-- name: create_project
INSERT INTO projects (id, name, created_at, token_secret) VALUES (?, ?, ?, lower(hex(randomblob(32))))
ON CONFLICT DO NOTHING;

-- name: get_token_secret
SELECT token_secret FROM projects WHERE id = ?;

-- name: get_project
SELECT id, name, created_at FROM projects WHERE id = ?;

-- name: list_projects
SELECT id, name, created_at FROM projects ORDER BY seq;

-- part: key
id, project_id, name, scopes, created_at, expires_at

-- name: create_key
INSERT INTO keys (project_id, id, secret_hash, name, scopes, created_at, expires_at)
SELECT id, ?, ?, ?, ?, ?, ? FROM projects WHERE id = ?;

-- name: find_key
SELECT {key} FROM keys WHERE project_id = ? AND secret_hash = ?;

-- name: list_keys
SELECT {key} FROM keys WHERE project_id = ? ORDER BY seq;

-- name: revoke_key
DELETE FROM keys WHERE project_id = ? AND id = ?;
