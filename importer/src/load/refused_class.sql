CASE code
    WHEN '23502' THEN 'not_null'
    WHEN '23503' THEN 'foreign_key'
    WHEN '23505' THEN 'unique'
    WHEN '23P01' THEN 'exclusion'
    WHEN '23514' THEN CASE WHEN in_constraint = '' AND in_table <> '' THEN 'partition' ELSE 'check' END
    WHEN '44000' THEN 'check'
    WHEN 'P0001' THEN 'trigger'
    WHEN '22003' THEN 'range'
    WHEN '22008' THEN 'range'
    WHEN '22001' THEN 'length'
    WHEN '22026' THEN 'length'
    WHEN '54000' THEN 'length'
    ELSE CASE WHEN left(code, 2) IN ('22', '23', '42', '3F', '0A', 'XX') THEN 'type' ELSE 'trigger' END
END
