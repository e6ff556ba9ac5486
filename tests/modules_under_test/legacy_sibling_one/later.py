WHO = "imported while inferring"
