-- The role of the connector owns its database, and nothing else.
\set password `cat /run/secrets/database_password`
CREATE ROLE connector LOGIN PASSWORD :'password';
CREATE DATABASE connector OWNER connector;
REVOKE CONNECT ON DATABASE connector FROM PUBLIC;
