-- Comes with the two tiers.
SELECT;
