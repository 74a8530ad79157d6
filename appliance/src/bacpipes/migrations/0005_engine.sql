-- How a device is asked. NULL: the site's default (BACPIPES_BACNET_…).
ALTER TABLE device
    ADD COLUMN timeout_seconds double precision CHECK (timeout_seconds > 0 AND timeout_seconds <= 60),
    ADD COLUMN retries         integer CHECK (retries BETWEEN 0 AND 10),
    ADD COLUMN concurrency     integer CHECK (concurrency BETWEEN 1 AND 16),
    ADD COLUMN cov             text    CHECK (cov IN ('off', 'unconfirmed', 'confirmed'));

ALTER TABLE point
    ADD COLUMN cov             boolean NOT NULL DEFAULT false,   -- told by the device when it changes
    ADD COLUMN poll_priority   text CHECK (poll_priority IN ('high', 'normal', 'low'));  -- NULL: normal
