-- The connector's role owns its database and nothing else.
\set password `cat /run/secrets/database_password`
CREATE ROLE connector LOGIN PASSWORD :'password';
CREATE DATABASE connector OWNER connector;
REVOKE CONNECT ON DATABASE connector FROM PUBLIC;
