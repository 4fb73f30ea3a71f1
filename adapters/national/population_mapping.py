"""The population contract as statements and templates: complete and constant. Pure data.

Names in braces are those of tables and columns. They are the only thing that settings change, and each is checked to be
a plain identifier before it is put in. Stored forms, after services 033 and 037 of the population database:

* `birth_date`: text, `YYYY`, `YYYYMM` or `YYYYMMDD`, as much as is known;
* `name_key`: the full name as `adapters.kinds.sql.binding.name_key` writes it;
* `sex`, `marital_status`, `blood_group`: codes, see `ENUMS`;
* everything else as text in the form of the contract; NULL where nothing is known.
"""

TABLE = "citizen"
COLUMNS = (
    "name_key",
    "number",
    "old_number",
    "family_name",
    "middle_name",
    "given_name",
    "full_name",
    "sex",
    "ethnicity",
    "religion",
    "marital_status",
    "blood_group",
    "birth_date",
    "nationality",
    "birth_registration_province",
    "birth_registration_district",
    "birth_registration_commune",
    "birth_registration_detail",
    "birth_registration_country",
    "home_town_province",
    "home_town_district",
    "home_town_commune",
    "home_town_detail",
    "home_town_country",
    "permanent_province",
    "permanent_district",
    "permanent_commune",
    "permanent_detail",
    "permanent_country",
    "current_province",
    "current_district",
    "current_commune",
    "current_detail",
    "current_country",
    "father_name",
    "father_nationality",
    "father_number",
    "father_old_number",
    "mother_name",
    "mother_nationality",
    "mother_number",
    "mother_old_number",
    "spouse_name",
    "spouse_nationality",
    "spouse_number",
    "spouse_old_number",
    "representative_name",
    "representative_nationality",
    "representative_number",
    "representative_old_number",
    "household_head_name",
    "household_head_nationality",
    "household_head_number",
    "household_head_old_number",
    "household_head_relation",
)

CONFIRM = """
SELECT EXISTS (
    SELECT 1 FROM {table}
    WHERE {number} = :number
      AND {name_key} = :full_name
      AND (CAST(:birth_date AS text) IS NULL
           OR substr({birth_date}, 1, length(CAST(:birth_date AS text)))
            = substr(CAST(:birth_date AS text), 1, length({birth_date})))
) AS found
"""

LOOK_UP = """
SELECT {number} AS number, {old_number} AS old_number, {family_name} AS family_name, {middle_name} AS middle_name,
       {given_name} AS given_name, {full_name} AS full_name, {sex} AS sex, {ethnicity} AS ethnicity,
       {religion} AS religion, {marital_status} AS marital_status, {blood_group} AS blood_group,
       {birth_date} AS birth_date, {nationality} AS nationality,
       {birth_registration_province} AS birth_registration_province,
       {birth_registration_district} AS birth_registration_district,
       {birth_registration_commune} AS birth_registration_commune,
       {birth_registration_detail} AS birth_registration_detail,
       {birth_registration_country} AS birth_registration_country, {home_town_province} AS home_town_province,
       {home_town_district} AS home_town_district, {home_town_commune} AS home_town_commune,
       {home_town_detail} AS home_town_detail, {home_town_country} AS home_town_country,
       {permanent_province} AS permanent_province, {permanent_district} AS permanent_district,
       {permanent_commune} AS permanent_commune, {permanent_detail} AS permanent_detail,
       {permanent_country} AS permanent_country, {current_province} AS current_province,
       {current_district} AS current_district, {current_commune} AS current_commune,
       {current_detail} AS current_detail, {current_country} AS current_country, {father_name} AS father_name,
       {father_nationality} AS father_nationality, {father_number} AS father_number,
       {father_old_number} AS father_old_number, {mother_name} AS mother_name,
       {mother_nationality} AS mother_nationality, {mother_number} AS mother_number,
       {mother_old_number} AS mother_old_number, {spouse_name} AS spouse_name,
       {spouse_nationality} AS spouse_nationality, {spouse_number} AS spouse_number,
       {spouse_old_number} AS spouse_old_number, {representative_name} AS representative_name,
       {representative_nationality} AS representative_nationality, {representative_number} AS representative_number,
       {representative_old_number} AS representative_old_number, {household_head_name} AS household_head_name,
       {household_head_nationality} AS household_head_nationality, {household_head_number} AS household_head_number,
       {household_head_old_number} AS household_head_old_number, {household_head_relation} AS household_head_relation
FROM {table}
WHERE {number} = :number
"""

ENUMS: dict[str, dict[str, object]] = {
    "sex": {"0": "unknown", "1": "male", "2": "female"},
    "marital-status": {
        "0": "unknown",
        "1": "single",
        "2": "married",
        "3": "widowed",
        "4": "divorced",
        "5": "separated",
    },
    "blood-group": {"0": "unknown", "1": "A", "2": "B", "3": "AB", "4": "O"},
}


def _place(column: str) -> dict[str, object]:
    parts = ("province", "district", "commune", "detail", "country")
    return {part: f"${column}_{part}" for part in parts}


def _person(column: str) -> dict[str, object]:
    return {
        "fullName": f"${column}_name",
        "nationality": f"${column}_nationality",
        "number": f"${column}_number",
        "oldNumber": f"${column}_old_number",
    }


CITIZEN: dict[str, object] = {
    "number": "$number",
    "oldNumber": "$old_number",
    "name": {"family": "$family_name", "middle": "$middle_name", "given": "$given_name", "full": "$full_name"},
    "sex": "$sex:sex",
    "ethnicity": "$ethnicity",
    "religion": "$religion",
    "maritalStatus": "$marital_status:marital-status",
    "bloodGroup": "$blood_group:blood-group",
    "birthDate": {"value": "$birth_date:partial-date", "precision": "$birth_date:date-precision"},
    "birthRegistrationPlace": _place("birth_registration"),
    "homeTown": _place("home_town"),
    "permanentResidence": _place("permanent"),
    "currentResidence": _place("current"),
    "nationality": "$nationality",
    "father": _person("father"),
    "mother": _person("mother"),
    "spouse": _person("spouse"),
    "representative": _person("representative"),
    "headOfHousehold": {**_person("household_head"), "relation": "$household_head_relation"},
}

OPERATIONS: dict[str, dict[str, object]] = {
    "confirmCitizen": {
        "statement": CONFIRM,
        "rows": "one",
        "answer": {"exists": "$found:boolean"},
        "parameters": {
            "number": {"from": "body.number"},
            "full_name": {"from": "body.fullName", "type": "name"},
            "birth_date": {"from": "body.birthDate", "type": "partial-date", "optional": True},
        },
    },
    "lookUpCitizen": {
        "statement": LOOK_UP,
        "rows": "optional",
        "answer": CITIZEN,
        "none": {"title": "No citizen has this number"},
        "parameters": {"number": {"from": "path.number"}},
    },
}
