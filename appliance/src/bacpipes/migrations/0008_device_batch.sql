-- What a device can do is remembered with who it was: another one, or a newer firmware, is asked anew.
ALTER TABLE device
    ADD COLUMN batch_points  integer CHECK (batch_points > 0),  -- points a request, where an abort has left fewer
    ADD COLUMN batch_since   timestamptz,                       -- when it did, or when more was tried last
    ADD COLUMN learnt_of     text;                              -- vendor, model, firmware and max APDU then
